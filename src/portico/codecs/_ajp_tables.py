"""AJP/1.3 codes and names: data only.

Spec: AJPv13 ("ajpv13a.html", Apache Tomcat Connectors), "Request Packet Structure" and
"Response Packet Structure".
"""

from __future__ import annotations

#: Methods by their code; code 0 does not exist, 255 stands for "see attribute stored_method".
METHODS = (
    "", "OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "PROPFIND", "PROPPATCH",
    "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "ACL", "REPORT", "VERSION-CONTROL", "CHECKIN",
    "CHECKOUT", "UNCHECKOUT", "SEARCH", "MKWORKSPACE", "UPDATE", "LABEL", "MERGE",
    "BASELINE-CONTROL", "MKACTIVITY",
)  # fmt: skip

#: Environ names of the coded request headers, by the low octet of A001..A00E.
REQUEST_HEADERS = (
    "", "HTTP_ACCEPT", "HTTP_ACCEPT_CHARSET", "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE",
    "HTTP_AUTHORIZATION", "HTTP_CONNECTION", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_COOKIE",
    "HTTP_COOKIE2", "HTTP_HOST", "HTTP_PRAGMA", "HTTP_REFERER", "HTTP_USER_AGENT",
)  # fmt: skip

#: Environ names of headers as servers spell them; any other spelling is checked and converted.
PLAIN_HEADERS = {
    "Accept-Encoding": "HTTP_ACCEPT_ENCODING",
    "Cache-Control": "HTTP_CACHE_CONTROL",
    "Content-Length": "CONTENT_LENGTH",
    "Content-Type": "CONTENT_TYPE",
    "DNT": "HTTP_DNT",
    "If-Modified-Since": "HTTP_IF_MODIFIED_SINCE",
    "If-None-Match": "HTTP_IF_NONE_MATCH",
    "Keep-Alive": "HTTP_KEEP_ALIVE",
    "Origin": "HTTP_ORIGIN",
    "Range": "HTTP_RANGE",
    "Sec-Fetch-Dest": "HTTP_SEC_FETCH_DEST",
    "Sec-Fetch-Mode": "HTTP_SEC_FETCH_MODE",
    "Sec-Fetch-Site": "HTTP_SEC_FETCH_SITE",
    "Sec-Fetch-User": "HTTP_SEC_FETCH_USER",
    "TE": "HTTP_TE",
    "Transfer-Encoding": "HTTP_TRANSFER_ENCODING",
    "Upgrade-Insecure-Requests": "HTTP_UPGRADE_INSECURE_REQUESTS",
    "Via": "HTTP_VIA",
    "X-Forwarded-For": "HTTP_X_FORWARDED_FOR",
    "X-Forwarded-Host": "HTTP_X_FORWARDED_HOST",
    "X-Forwarded-Proto": "HTTP_X_FORWARDED_PROTO",
    "X-Forwarded-Server": "HTTP_X_FORWARDED_SERVER",
    "X-Real-IP": "HTTP_X_REAL_IP",
    "X-Requested-With": "HTTP_X_REQUESTED_WITH",
}

#: Response header names by the low octet of A001..A00B.
RESPONSE_HEADERS = (
    "", "Content-Type", "Content-Language", "Content-Length", "Date", "Last-Modified", "Location",
    "Set-Cookie", "Set-Cookie2", "Servlet-Engine", "Status", "WWW-Authenticate",
)  # fmt: skip

#: Request attributes.
CONTEXT = 0x01
SERVLET_PATH = 0x02
REMOTE_USER = 0x03
AUTH_TYPE = 0x04
QUERY_STRING = 0x05
JVM_ROUTE = 0x06
SSL_CERT = 0x07
SSL_CIPHER = 0x08
SSL_SESSION = 0x09
REQ_ATTRIBUTE = 0x0A
SSL_KEY_SIZE = 0x0B
SECRET = 0x0C
STORED_METHOD = 0x0D
ARE_DONE = 0xFF

#: Attributes with one string as value: all but REQ_ATTRIBUTE, SSL_KEY_SIZE and ARE_DONE.
STRING_ATTRIBUTES = frozenset(
    {
        CONTEXT, SERVLET_PATH, REMOTE_USER, AUTH_TYPE, QUERY_STRING, JVM_ROUTE, SSL_CERT,
        SSL_CIPHER, SSL_SESSION, SECRET, STORED_METHOD,
    }
)  # fmt: skip

#: String attributes that become parameters as they are.
ATTRIBUTE_NAMES = {
    REMOTE_USER: "REMOTE_USER",
    AUTH_TYPE: "AUTH_TYPE",
    SSL_CIPHER: "SSL_CIPHER",
    SSL_SESSION: "SSL_SESSION_ID",
}

#: Named request attributes (code 0A) that mean a parameter.
REQ_ATTRIBUTE_NAMES = {
    "AJP_REMOTE_PORT": "REMOTE_PORT",
    "AJP_LOCAL_ADDR": "SERVER_ADDR",
    "AJP_SSL_PROTOCOL": "SSL_PROTOCOL",
}

#: Parameters that no named request attribute sets: an operator cannot allow them. They are
#: what CGI and this module give, and what the repairs of SCRIPT_NAME and PATH_INFO go by.
RESERVED_NAMES = frozenset(
    {
        "APPL_MD_PATH", "AUTH_TYPE", "Authorization", "CONTENT_LENGTH", "CONTENT_TYPE",
        "DOCUMENT_ROOT", "DOCUMENT_URI", "GATEWAY_INTERFACE", "HTTPS", "PATH_INFO",
        "PATH_TRANSLATED", "QUERY_STRING", "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_IDENT",
        "REMOTE_PORT", "REMOTE_USER", "REQUEST_METHOD", "REQUEST_SCHEME", "REQUEST_URI",
        "SCRIPT_FILENAME", "SCRIPT_NAME", "SERVER_ADDR", "SERVER_NAME", "SERVER_PORT",
        "SERVER_PORT_SECURE", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "SSL_CIPHER",
        "SSL_CIPHER_USEKEYSIZE", "SSL_CLIENT_CERT", "SSL_PROTOCOL", "SSL_SESSION_ID",
    }
)  # fmt: skip

#: Beginnings of names that no named request attribute sets either.
RESERVED_PREFIXES = ("HTTP_", "REDIRECT_", "wsgi.", "portico.")
