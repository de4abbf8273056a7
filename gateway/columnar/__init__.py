"""Tables in Arrow's formats, decoded in a process of their own.

A damaged body can end the process that pyarrow reads it in, and a small one can decode to any size. So each worker has
a codec beside it, started when the first such body comes: it has no secrets and a bound on its memory, and whatever
becomes of it is the end of that request and of nothing else. The worker itself never imports pyarrow.
"""
