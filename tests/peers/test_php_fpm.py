"""php-fpm as the FastCGI server behind our client."""

import io
import json

import pytest

from peers_harness import (
    LARGE,
    Program,
    Source,
    ask,
    digest_of,
    environ,
    find,
    free_port,
    pattern_digest,
)
from portico.client.forward import Forward
from portico.client.pool import Pool
from portico.client.probe import get_values

pytestmark = pytest.mark.peer("php-fpm")

SCRIPT = r"""<?php
$do = $_GET['do'] ?? 'show';
if ($do === 'show') {
    header('Content-Type: application/json');
    header('X-Two: 1', false);
    header('X-Two: 2', false);
    echo json_encode(['server' => $_SERVER, 'body' => file_get_contents('php://input'),
                      'pid' => getmypid()]);
} elseif ($do === 'digest') {
    $hash = hash_init('sha256');
    $size = 0;
    $input = fopen('php://input', 'rb');
    while (!feof($input)) {
        $block = fread($input, 65536);
        $size += strlen($block);
        hash_update($hash, $block);
    }
    echo $size, ' ', hash_final($hash);
} elseif ($do === 'download') {
    $left = (int) $_GET['size'];
    header('Content-Length: ' . $left);
    $block = '';
    for ($octet = 0; $octet < 256; $octet++) $block .= chr($octet);
    $block = str_repeat($block, 256);
    while ($left > 0) {
        echo $left >= 65536 ? $block : substr($block, 0, $left);
        $left -= 65536;
    }
} elseif ($do === 'log') {
    error_log('first warning');
    echo 'logged';
    flush();
    error_log('second warning');
} elseif ($do === 'fatal') {
    undefined_function();
} elseif ($do === 'late') {
    echo str_repeat('x', 100000);
    flush();
    undefined_function();
} elseif ($do === 'exit') {
    http_response_code(404);
    exit(3);
}
"""

CONFIG = """
[global]
error_log = {home}/fpm.log
daemonize = no
[app]
listen = {listen}
pm = static
pm.max_children = 2
pm.max_requests = {max_requests}
php_admin_value[post_max_size] = 0
php_admin_value[enable_post_data_reading] = 0
php_admin_value[log_errors] = 1
php_admin_value[display_errors] = 0
"""


class Fpm(Program):
    def run(self, transport, max_requests=0):
        if transport == "unix":
            address = self.home / "s"
            listen, self.url = address, f"fastcgi+unix://{address}"
        else:
            address = ("127.0.0.1", free_port())
            listen, self.url = f"127.0.0.1:{address[1]}", f"fastcgi://127.0.0.1:{address[1]}"
        (self.home / "app.php").write_text(SCRIPT)
        config = self.home / "fpm.conf"
        config.write_text(CONFIG.format(home=self.home, listen=listen, max_requests=max_requests))
        self.start([find("php-fpm"), "-n", "-F", "-y", config], [address])

    def params(self, query, *, method="GET", **more):
        return environ(
            "/app.php",
            query,
            method=method,
            **{"SCRIPT_NAME": "/app.php", "PATH_INFO": "", **more},
            SCRIPT_FILENAME=str(self.home / "app.php"),
        )


@pytest.fixture(scope="module", params=["tcp", "unix"])
def fpm(request):
    with Fpm() as program:
        program.run(request.param)
        yield program


@pytest.fixture
def pool(fpm):
    with Pool(fpm.url) as pool:
        yield pool


def test_get(fpm, pool):
    with pool.open(fpm.params("do=show&x=%E9", HTTP_X_A="1")) as answer:
        shown = json.loads(b"".join(answer))
    assert answer.status == "200 OK"
    assert [value for name, value in answer.headers if name == "X-Two"] == ["1", "2"]
    assert shown["server"]["QUERY_STRING"] == "do=show&x=%E9"
    assert shown["server"]["HTTP_X_A"] == "1"
    assert shown["server"]["FCGI_ROLE"] == "RESPONDER"


def test_post(fpm, pool):
    params = fpm.params("do=show", method="POST", CONTENT_TYPE="text/plain")
    status, _, content = ask(pool, params, b"some body")
    assert status == "200 OK"
    shown = json.loads(content)
    assert shown["body"] == "some body"
    assert shown["server"]["CONTENT_LENGTH"] == "9"


def test_head(fpm, pool):
    for _ in range(2):
        status, headers, content = ask(pool, fpm.params("do=show", method="HEAD"))
        assert (status, content) == ("200 OK", b"")
        assert headers["content-type"] == "application/json"


def test_50_mb_up(fpm, pool):
    params = fpm.params("do=digest", method="POST", CONTENT_LENGTH=str(LARGE))
    status, _, content = ask(pool, params, Source(LARGE))
    assert status == "200 OK"
    assert content.decode() == f"{LARGE} {pattern_digest(LARGE)}"


def test_an_upload_of_unknown_length(fpm, pool):
    """PHP reads what comes, whatever CONTENT_LENGTH says or does not say."""
    status, _, content = ask(
        pool, fpm.params("do=digest", method="POST"), iter([bytes(range(256))] * 1000)
    )
    assert status == "200 OK"
    assert content.decode() in (f"256000 {pattern_digest(256_000)}", f"0 {pattern_digest(0)}")


def test_50_mb_down(fpm, pool):
    with pool.open(fpm.params(f"do=download&size={LARGE}")) as answer:
        assert digest_of(answer) == (LARGE, pattern_digest(LARGE))
        assert answer.ended


def test_1000_requests_on_one_connection(fpm, connections):
    processes = set()
    with Pool(fpm.url) as pool:
        for number in range(1000):
            status, _, content = ask(pool, fpm.params(f"do=show&n={number}"))
            assert status == "200 OK"
            shown = json.loads(content)
            assert shown["server"]["QUERY_STRING"] == f"do=show&n={number}"
            processes.add(shown["pid"])
    assert len(connections) == 1
    assert len(processes) == 1  # a connection is one process's for as long as it lasts


def test_what_error_log_says_is_in_the_error_stream(fpm, pool):
    with pool.open(fpm.params("do=log")) as answer:
        assert b"".join(answer) == b"logged"
        text = answer.take_stderr()
    assert "first warning" in text
    assert "second warning" in text


def test_what_error_log_says_goes_to_wsgi_errors(fpm):
    errors = io.StringIO()
    heads = []
    params = {
        **fpm.params("do=log"),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": errors,
        "wsgi.url_scheme": "http",
    }
    forward = Forward(fpm.url)
    assert b"".join(forward(params, lambda *head: heads.append(head))) == b"logged"
    forward.close()
    assert heads[0][0] == "200 OK"
    assert "first warning" in errors.getvalue()
    assert "second warning" in errors.getvalue()


def test_a_fatal_error_is_a_500_with_its_reason_in_the_error_stream(fpm, pool):
    with pool.open(fpm.params("do=fatal")) as answer:
        assert answer.status[:3] == "500"
        b"".join(answer)
        assert "undefined_function" in answer.take_stderr()


def test_a_script_that_is_not_there(fpm, pool):
    params = fpm.params("do=show")
    params["SCRIPT_FILENAME"] += ".none"
    with pool.open(params) as answer:
        assert answer.status[:3] == "404"
        b"".join(answer)
        assert "Primary script unknown" in answer.take_stderr()


def test_another_status(fpm, pool):
    assert ask(pool, fpm.params("do=exit"))[0][:3] == "404"


def test_giving_up_leaves_the_next_request_alone(fpm, pool):
    with pool.open(fpm.params(f"do=download&size={LARGE}")) as answer:
        assert next(answer)
    assert ask(pool, fpm.params("do=show"))[0] == "200 OK"


def test_a_fatal_error_after_the_head_ends_the_response(fpm, pool):
    """PHP ends the request as if it were whole: only the error stream tells."""
    with pool.open(fpm.params("do=late")) as answer:
        assert answer.status == "200 OK"
        assert b"".join(answer) == b"x" * 100_000
        assert "undefined_function" in answer.take_stderr()


def test_aborting_in_time_keeps_the_connection_in_step(fpm, connections):
    """PHP reads no FCGI_ABORT_REQUEST while it runs: what it goes on to say is dropped."""
    with Pool(fpm.url) as pool:
        answer = pool.open(fpm.params("do=log"))
        answer.abort(10)
        for number in range(3):
            content = ask(pool, fpm.params(f"do=show&n={number}"))[2]
            assert json.loads(content)["server"]["QUERY_STRING"] == f"do=show&n={number}"
    assert len(connections) <= 2


def test_values(fpm):
    """PHP's own numbers: a process serves one request at a time."""
    assert get_values(fpm.url)["FCGI_MPXS_CONNS"] == "0"


def test_other_roles(fpm):
    """PHP serves in all of them as in one; a Filter's data it does not read."""
    with Pool(fpm.url, role="authorizer") as pool:
        status, _, content = ask(pool, fpm.params("do=show"))
        assert status == "200 OK"
        assert json.loads(content)["server"]["FCGI_ROLE"] == "AUTHORIZER"
    with Pool(fpm.url, role="filter") as pool:
        for number in range(3):
            params = fpm.params(f"do=show&n={number}", FCGI_DATA_LAST_MOD="0")
            with pool.open(params, data=b"x" * 100_000) as answer:
                shown = json.loads(b"".join(answer))
            assert shown["server"]["FCGI_ROLE"] == "FILTER"
            assert shown["server"]["FCGI_DATA_LENGTH"] == "100000"
            assert shown["server"]["QUERY_STRING"] == f"do=show&n={number}"


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_processes_that_end_after_some_requests_lose_none(transport, connections):
    """Each ends the connection behind its last answer, unannounced: 1,000 requests, no error."""
    with Fpm() as program:
        program.run(transport, max_requests=50)
        with Pool(program.url, max_requests=50) as pool:
            for number in range(1000):
                status, _, content = ask(pool, program.params(f"do=show&n={number}"))
                assert status == "200 OK"
                assert json.loads(content)["server"]["QUERY_STRING"] == f"do=show&n={number}"
    assert len(connections) == 20
