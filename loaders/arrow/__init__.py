"""Tables in Arrow's formats, IPC streams and Parquet, into arrays and back.

Needs ``pyarrow``, an extra, and trusts no more of it than must be: a damaged body can crash it, and it decompresses
whatever it is given. So whoever calls this does it in a process that may end, with a bound on its memory. No pandas:
where Arrow's own conversions would import it, the buffers are read as they are.
"""
