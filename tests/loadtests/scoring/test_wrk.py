import pytest

from loadtests.scoring.wrk import Found, WrkFailed, parse, write_script

OUTPUT = """\
Running 4s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.21ms  512.00us  12.11ms   91.02%
    Req/Sec     9.95k   301.11    10.40k    70.00%
  39811 requests in 4.00s, 8.01MB read
Requests/sec:   9941.21
Transfer/sec:      2.00MB
"""


def test_the_result_is_the_line_that_the_script_prints():
    line = 'titlebout-bench {"duration_us":4003102,"requests":39811,"p50_us":3180,"p99_us":4710,"errors":2}\n'
    assert parse(OUTPUT + line) == Found(duration_us=4_003_102, requests=39_811, p50_us=3180, p99_us=4710, errors=2)


def test_output_without_a_result_is_an_error():
    with pytest.raises(WrkFailed, match="no result"):
        parse(OUTPUT)


def test_bodies_stand_in_the_script_as_they_are(tmp_path):
    bodies = [b'{"inputs": ["a \\"word\\" and a \\\\ and [[brackets]]"]}', b'{"inputs": ["b"]}']
    write_script(tmp_path / "post.lua", bodies)
    script = (tmp_path / "post.lua").read_text()
    assert all(f"[==[{body.decode()}]==]" in script for body in bodies)
