"""Tomcat's AJP connector as the application server behind our client."""

from pathlib import Path

import pytest

from cli_harness import eventually
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
from portico.client.exchange import BackendError, Timeouts
from portico.client.pool import Pool
from portico.client.probe import ping
from portico.codecs._ajp_tables import METHODS

pytestmark = pytest.mark.peer("tomcat")

JARS = Path("/usr/share/java")

SERVER = """<?xml version="1.0"?>
<Server port="-1">
  <Service name="Catalina">
    <Connector protocol="AJP/1.3" address="127.0.0.1" port="{port}" secret="s3cret"
               maxThreads="4" keepAliveTimeout="{idle}" tomcatAuthentication="false"
               allowedRequestAttributesPattern="portico_.*"/>
    <Connector protocol="AJP/1.3" address="127.0.0.1" port="{large}" secretRequired="false"
               packetSize="65536" maxThreads="4" tomcatAuthentication="false"
               allowedRequestAttributesPattern="portico_.*"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false" deployOnStartup="false">
        <Context path="" docBase="{home}/site"/>
      </Host>
    </Engine>
  </Service>
</Server>
"""

WEB = """<?xml version="1.0"?>
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0" metadata-complete="true">
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
    <init-param><param-name>fork</param-name><param-value>false</param-value></init-param>
  </servlet>
  <servlet-mapping>
    <servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern>
  </servlet-mapping>
</web-app>
"""

#: A page in Java: nothing but the compiler that Jasper brings along is needed to run it.
PAGE = r"""<%@ page trimDirectiveWhitespaces="true" session="false"
  import="java.io.*,java.security.*,java.util.*" %><%
String act = request.getParameter("do");
if (act == null) {
  String tomcat = "org.apache.tomcat.util.net.";
  String servlet = "jakarta.servlet.request.";
  String[][] seen = {
    {"method", request.getMethod()},
    {"uri", request.getRequestURI()},
    {"query", request.getQueryString()},
    {"remote", request.getRemoteAddr() + ":" + request.getRemotePort()},
    {"server", request.getServerName() + ":" + request.getServerPort()},
    {"secure", request.isSecure() + " " + request.getScheme()},
    {"user", request.getRemoteUser()},
    {"auth", request.getAuthType()},
    {"header", request.getHeader("X-A")},
    {"cookie", request.getHeader("Cookie")},
    {"cipher", "" + request.getAttribute(servlet + "cipher_suite")},
    {"size", "" + request.getAttribute(servlet + "key_size")},
    {"session", "" + request.getAttribute(servlet + "ssl_session_id")},
    {"protocol", "" + request.getAttribute(tomcat + "secure_protocol_version")},
    {"extra", "" + request.getAttribute("portico_extra")}};
  StringBuilder text = new StringBuilder();
  for (String[] pair : seen) text.append(pair[0]).append('=').append(pair[1]).append('\n');
  response.setContentType("text/plain");
  response.addHeader("X-Two", "1");
  response.addHeader("X-Two", "2");
  response.getOutputStream().write(text.toString().getBytes("ISO-8859-1"));
} else if (act.equals("digest")) {
  MessageDigest whole = MessageDigest.getInstance("SHA-256");
  InputStream in = request.getInputStream();
  byte[] block = new byte[65536];
  long size = 0;
  for (int got; (got = in.read(block)) > 0; size += got) whole.update(block, 0, got);
  String hex = HexFormat.of().formatHex(whole.digest());
  response.getOutputStream().write((size + " " + hex).getBytes("ISO-8859-1"));
} else if (act.equals("download")) {
  long left = Long.parseLong(request.getParameter("size"));
  response.setContentLengthLong(left);
  byte[] block = new byte[65536];
  for (int at = 0; at < block.length; at++) block[at] = (byte) at;
  OutputStream to = response.getOutputStream();
  for (; left > 0; left -= block.length) to.write(block, 0, (int) Math.min(left, block.length));
} else if (act.equals("flush")) {
  OutputStream to = response.getOutputStream();
  response.flushBuffer();
  for (int number = 0; number < 5; number++) {
    to.write('0' + number);
    to.flush();
    to.flush();
  }
} else if (act.equals("fail")) {
  throw new IllegalStateException("on purpose");
} else if (act.equals("late")) {
  OutputStream to = response.getOutputStream();
  to.write(new byte[100000]);
  to.flush();
  throw new IllegalStateException("on purpose");
}
%>"""


class Tomcat(Program):
    def run(self, *, idle_seconds=20):
        port, large = free_port(), free_port()
        (self.home / "conf").mkdir()
        (self.home / "site/WEB-INF").mkdir(parents=True)
        for name in ("logs", "temp", "work", "webapps"):
            (self.home / name).mkdir()
        server = SERVER.format(home=self.home, port=port, large=large, idle=idle_seconds * 1000)
        (self.home / "conf/server.xml").write_text(server)
        (self.home / "site/WEB-INF/web.xml").write_text(WEB)
        (self.home / "site/app.jsp").write_text(PAGE)
        self.give_away()
        self.url = f"ajp://127.0.0.1:{port}?secret=s3cret"
        self.large_url = f"ajp://127.0.0.1:{large}?packet_size=65536"
        self.port = port
        # the links without a version in their names: each jar once
        jars = [jar for jar in JARS.glob("tomcat10-*.jar") if not jar.stem[-1].isdigit()]
        command = [
            find("tomcat"),
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # starts sooner
            f"-Dcatalina.base={self.home}",
            f"-Dcatalina.home={self.home}",
            f"-Djava.io.tmpdir={self.home}/temp",
            "-cp",
            ":".join(map(str, [*jars, JARS / "eclipse-jdt-core.jar"])),
            "org.apache.catalina.startup.Tomcat",
            "--no-jmx",
            "--await",
        ]
        self.start(command, [("127.0.0.1", port), ("127.0.0.1", large)])
        with Pool(self.url) as pool:  # compiles the page
            status, _, content = ask(pool, environ("/app.jsp"))
        assert status[:3] == "200", content.decode() + self.output()


@pytest.fixture(scope="module")
def tomcat():
    with Tomcat() as program:
        program.run()
        yield program


@pytest.fixture(params=["url", "large_url"], ids=["8192", "65536"])
def pool(tomcat, request):
    """Over the packet size that AJP begins with, and the largest."""
    with Pool(getattr(tomcat, request.param)) as pool:
        yield pool


def show(pool, query="", body=b"", **params):
    """What the servlet saw: lines of name and value."""
    status, _, content = ask(pool, environ("/app.jsp", query, **params), body)
    assert status[:3] == "200"
    return dict(line.split("=", 1) for line in content.decode("latin-1").splitlines())


def test_get(pool):
    with pool.open(environ("/app.jsp", "x=%E9", HTTP_X_A="1")) as answer:
        b"".join(answer)
    assert answer.status[:3] == "200"
    assert [value for name, value in answer.headers if name == "X-Two"] == ["1", "2"]


def test_what_a_servlet_sees(pool):
    seen = show(
        pool,
        "x=%E9",
        HTTP_X_A="\xe9",
        HTTP_COOKIE="a=b",
        REMOTE_PORT="4711",
        SERVER_PORT="8443",
        HTTP_HOST="example.test:8443",
        SERVER_NAME="example.test",
        HTTPS="on",
        REMOTE_USER="ann",
        AUTH_TYPE="Basic",
        SSL_CIPHER="TLS_AES_128_GCM_SHA256",
        SSL_CIPHER_USEKEYSIZE="128",
        SSL_SESSION_ID="0a0b",
        SSL_PROTOCOL="TLSv1.3",
        CONTEXT_PATH="/c",
        SERVLET_PATH="/s",
        JVM_ROUTE="r",
        AJP_portico_extra="more",
    )
    assert seen == {
        "method": "GET",
        "uri": "/app.jsp",
        "query": "x=%E9",
        "remote": "127.0.0.1:4711",
        "server": "example.test:8443",
        "secure": "true https",
        "user": "ann",
        "auth": "Basic",
        "header": "\xe9",
        "cookie": "a=b",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "size": "128",
        "session": "0a0b",
        "protocol": "TLSv1.3",
        "extra": "more",
    }


def test_a_request_attribute_that_tomcat_does_not_allow(pool):
    assert ask(pool, environ("/app.jsp", AJP_other="x"))[0][:3] == "403"


@pytest.mark.parametrize("method", [*METHODS[1:], "PATCH", "M-SEARCH"])
def test_every_method(pool, method):
    """Coded ones and stored_method; Jasper refuses what is no GET, POST or HEAD by a 405."""
    status, headers, content = ask(pool, environ("/app.jsp", method=method))
    if method in ("GET", "POST"):
        assert status[:3] == "200"
        assert f"method={method}\n".encode() in content
    elif method == "HEAD":
        assert (status[:3], content) == ("200", b"")
        assert headers["x-two"] == "2"
    elif method == "OPTIONS":
        assert "GET" in headers["allow"]
    else:
        assert status[:3] == "405"


@pytest.mark.parametrize("size", [1, 8185, 8186, 8187, 16_372, 16_373, 65_530, 65_531, 300_000])
def test_uploads_around_a_packets_size(pool, size):
    params = environ("/app.jsp", "do=digest", method="POST", CONTENT_LENGTH=str(size))
    content = ask(pool, params, Source(size))[2]
    assert content.decode() == f"{size} {pattern_digest(size)}"


@pytest.mark.parametrize("size", [0, 1, 8186, 300_000])
def test_an_upload_of_unknown_length(pool, size):
    source = Source(size)
    blocks = iter(lambda: source.read(7001), b"")
    content = ask(pool, environ("/app.jsp", "do=digest", method="POST"), blocks)[2]
    assert content.decode() == f"{size} {pattern_digest(size)}"


def test_50_mb_up(pool):
    params = environ("/app.jsp", "do=digest", method="POST", CONTENT_LENGTH=str(LARGE))
    content = ask(pool, params, Source(LARGE))[2]
    assert content.decode() == f"{LARGE} {pattern_digest(LARGE)}"


def test_50_mb_down(pool):
    with pool.open(environ("/app.jsp", f"do=download&size={LARGE}")) as answer:
        assert digest_of(answer) == (LARGE, pattern_digest(LARGE))


def test_head(pool):
    for _ in range(2):
        params = environ("/app.jsp", "do=download&size=1000", method="HEAD")
        status, headers, content = ask(pool, params)
        assert (status[:3], headers["content-length"], content) == ("200", "1000", b"")


def test_flushes_are_no_end(pool):
    """Each flush of nothing is an empty Send Body Chunk."""
    assert ask(pool, environ("/app.jsp", "do=flush"))[2] == b"01234"


def test_1000_requests_on_one_connection(tomcat, connections):
    with Pool(tomcat.url) as pool:
        for number in range(1000):
            assert show(pool, f"n={number}")["query"] == f"n={number}"
    assert len(connections) == 1


def test_1000_requests_each_after_a_ping(tomcat, connections):
    with Pool(tomcat.url, ping_seconds=10) as pool:
        for number in range(1000):
            assert show(pool, f"n={number}")["query"] == f"n={number}"
    assert len(connections) == 1


def test_a_connection_whose_upload_nobody_read_is_used_again_or_not_but_in_step(pool):
    for number in range(3):
        seen = show(pool, f"n={number}", b"x" * 100_000, method="POST")
        assert seen["query"] == f"n={number}"


def test_a_connection_that_tomcat_has_closed_is_noticed(connections):
    """keepAliveTimeout of one second passes: the next request, a POST, takes a new connection."""
    with Tomcat() as program:
        program.run(idle_seconds=1)
        with Pool(program.url) as pool:
            show(pool)
            del connections[:-1]
            kept = connections[0]
            eventually(kept.peer_gone, "Tomcat's end of an idle connection")
            assert show(pool, "n=1", b"body", method="POST")["query"] == "n=1"
        assert len(connections) == 2


def test_ping(tomcat):
    assert 0 < ping(tomcat.url) < 10


@pytest.mark.parametrize("secret", ["?secret=wrong", ""])
def test_a_wrong_secret_is_a_403(tomcat, secret):
    with Pool(f"ajp://127.0.0.1:{tomcat.port}{secret}") as pool:
        assert ask(pool, environ("/app.jsp"))[0][:3] == "403"


def test_a_page_that_fails_is_a_500(pool):
    status, _, content = ask(pool, environ("/app.jsp", "do=fail"))
    assert status[:3] == "500"
    assert b"on purpose" in content


@pytest.mark.parametrize("url", ["url", "large_url"])
def test_a_page_that_fails_late_is_a_cut_response(tomcat, url):
    """Tomcat 10.1 neither ends it nor closes: it waits for a next request, the client gives up."""
    with Pool(getattr(tomcat, url), timeouts=Timeouts(read=0.5)) as pool:
        with pool.open(environ("/app.jsp", "do=late")) as answer:
            assert answer.status[:3] == "200"
            with pytest.raises(BackendError):
                list(answer)
        assert show(pool, "n=1")["query"] == "n=1"
