"""FastCGI 1.0 as octets and what they mean; hexadecimal, blanks are for the eye."""

from __future__ import annotations

import pytest

# A record: version, type, request id, content length, padding length, reserved, content, padding.
BEGIN = "01 01 0001 0008 00 00  0001 00 0000000000"
BEGIN_KEEP = "01 01 0001 0008 00 00  0001 01 0000000000"
END_PARAMS = "01 04 0001 0000 00 00"
END_STDIN = "01 05 0001 0000 00 00"
ABORT = "01 02 0001 0000 00 00"

# A=b, and nothing else
PARAMS = "01 04 0001 0004 00 00  01 01 41 62"
# CONTENT_LENGTH=5 and 0
LENGTH_5 = "01 04 0001 0011 00 00  0E 01 43 4F 4E 54 45 4E 54 5F 4C 45 4E 47 54 48 35"
LENGTH_0 = "01 04 0001 0011 00 00  0E 01 43 4F 4E 54 45 4E 54 5F 4C 45 4E 47 54 48 30"
HELLO = "01 05 0001 0005 00 00  68 65 6C 6C 6F"

PAIRS = [
    pytest.param("", [], id="empty"),
    pytest.param("01 01 41 62", [("A", "b")], id="short-lengths"),
    pytest.param("01 00 41", [("A", "")], id="empty-value"),
    pytest.param("00 01 62", [("", "b")], id="empty-name"),
    pytest.param("00 00", [("", "")], id="empty-both"),
    pytest.param("80000001 01 41 62", [("A", "b")], id="long-form-of-a-short-name"),
    pytest.param("01 80000001 41 62", [("A", "b")], id="long-form-of-a-short-value"),
    pytest.param("80000001 80000001 41 62", [("A", "b")], id="long-form-of-both"),
    pytest.param("80000000 80000000", [("", "")], id="long-form-of-nothing"),
    pytest.param("7F 01" + "41" * 127 + "62", [("A" * 127, "b")], id="longest-short-name"),
    pytest.param("80000080 01" + "41" * 128 + "62", [("A" * 128, "b")], id="shortest-long-name"),
    pytest.param("01 7F 41" + "62" * 127, [("A", "b" * 127)], id="longest-short-value"),
    pytest.param("01 80000080 41" + "62" * 128, [("A", "b" * 128)], id="shortest-long-value"),
    pytest.param("01 80010001 41" + "62" * 65537, [("A", "b" * 65537)], id="three-octet-length"),
    pytest.param("01 01 41 E9", [("A", "\u00e9")], id="latin-1-value"),
    pytest.param("01 02 41 C3A9", [("A", "\u00c3\u00a9")], id="utf-8-value-stays-octets"),
    pytest.param("01 03 41 00 0D 0A", [("A", "\0\r\n")], id="controls-in-a-value"),
    pytest.param("01 01 41 62 01 01 42 63", [("A", "b"), ("B", "c")], id="two"),
    pytest.param("01 01 41 62 01 01 41 62", [("A", "b"), ("A", "b")], id="repeated"),
]

# Shapes of lengths that no encoder of ours makes.
LONG_FORMS = frozenset(
    [
        "long-form-of-a-short-name",
        "long-form-of-a-short-value",
        "long-form-of-both",
        "long-form-of-nothing",
    ]
)

BROKEN_PAIRS = [
    pytest.param("01", id="no-value-length"),
    pytest.param("01 01", id="no-name"),
    pytest.param("01 01 41", id="no-value"),
    pytest.param("01 05 41 62", id="value-past-the-end"),
    pytest.param("05 01 41 62", id="name-past-the-end"),
    pytest.param("01 01 41 62 01", id="cut-in-the-second-pair"),
    pytest.param("80", id="name-length-of-one-octet"),
    pytest.param("80 00 00", id="name-length-of-three-octets"),
    pytest.param("80 00 00 01", id="long-name-length-and-no-more"),
    pytest.param("01 80 00 00", id="value-length-of-three-octets"),
    pytest.param("01 FFFFFFFF 41 62", id="value-of-2-gib"),
    pytest.param("FFFFFFFF 01 41 62", id="name-of-2-gib"),
    pytest.param("FFFFFFFF FFFFFFFF", id="both-of-2-gib"),
]

# octets, environ, body, outcome ("complete", "aborted", "open"); end of file follows
REQUESTS = [
    pytest.param([BEGIN, PARAMS, END_PARAMS, END_STDIN], {"A": "b"}, "", "complete", id="get"),
    pytest.param([BEGIN, END_PARAMS, END_STDIN], {}, "", "complete", id="no-parameter"),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS, HELLO, END_STDIN], {"A": "b"}, "hello", "complete", id="post"
    ),
    pytest.param(
        [BEGIN, LENGTH_5, END_PARAMS, HELLO, END_STDIN],
        {"CONTENT_LENGTH": "5"},
        "hello",
        "complete",
        id="post-with-its-length",
    ),
    pytest.param(
        [BEGIN, LENGTH_5, END_PARAMS, HELLO, HELLO, END_STDIN],
        {"CONTENT_LENGTH": "5"},
        "hello",
        "complete",
        id="excess-in-a-record-of-its-own-is-dropped",
    ),
    pytest.param(
        [
            BEGIN,
            LENGTH_5,
            END_PARAMS,
            "01 05 0001 0003 00 00 68 65 6C",
            "01 05 0001 0004 00 00 6C 6F 21 21",
            END_STDIN,
        ],
        {"CONTENT_LENGTH": "5"},
        "hello",
        "complete",
        id="excess-within-a-record-is-dropped",
    ),
    pytest.param(
        [BEGIN, LENGTH_0, END_PARAMS, HELLO, END_STDIN],
        {"CONTENT_LENGTH": "0"},
        "",
        "complete",
        id="all-beyond-a-length-of-0-is-dropped",
    ),
    pytest.param(
        [BEGIN, LENGTH_5, END_PARAMS, "01 05 0001 0002 00 00 68 65", END_STDIN],
        {"CONTENT_LENGTH": "5"},
        "he",
        "aborted",
        id="short-of-its-length",
    ),
    pytest.param(
        [BEGIN, LENGTH_5, END_PARAMS, END_STDIN],
        {"CONTENT_LENGTH": "5"},
        "",
        "aborted",
        id="nothing-of-its-length",
    ),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS, HELLO], {"A": "b"}, "hello", "aborted", id="cut-by-end-of-file"
    ),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS, HELLO, "01 05 0001 0005 00 00 68 65"],
        {"A": "b"},
        "hello",
        "aborted",
        id="cut-within-a-record",
    ),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS, HELLO, ABORT], {"A": "b"}, "hello", "aborted", id="abort-record"
    ),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS, HELLO, ABORT, HELLO, END_STDIN, ABORT],
        {"A": "b"},
        "hello",
        "aborted",
        id="stdin-after-the-abort-is-dropped",
    ),
    pytest.param(
        [
            BEGIN,
            *(f"01 04 0001 0001 00 00 {octet}" for octet in ("01", "01", "41", "62")),
            END_PARAMS,
            END_STDIN,
        ],
        {"A": "b"},
        "",
        "complete",
        id="a-record-for-each-octet-of-the-parameters",
    ),
    pytest.param(
        [BEGIN, PARAMS, END_PARAMS]
        + [f"01 05 0001 0001 00 00 {octet}" for octet in ("68", "65", "6C", "6C", "6F")]
        + [END_STDIN],
        {"A": "b"},
        "hello",
        "complete",
        id="a-record-for-each-octet-of-the-body",
    ),
    pytest.param(
        [
            "01 01 0001 0008 03 00  0001 00 0000000000  FFFFFF",
            "01 04 0001 0004 FF 00  01 01 41 62" + "01" * 255,
            "01 04 0001 0000 FF 00" + "01" * 255,
            "01 05 0001 0005 FF 00  68 65 6C 6C 6F" + "01" * 255,
            "01 05 0001 0000 FF 00" + "01" * 255,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="255-octets-of-padding-everywhere",
    ),
    pytest.param(
        [
            BEGIN,
            "01 04 0001 0004 05 00  01 01 41 62  0000000000",
            END_PARAMS,
            "01 05 0001 0005 03 00  68 65 6C 6C 6F  000000",
            END_STDIN,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="padding-to-8-as-nginx-1.22-does",
    ),
    pytest.param(
        [
            "01 01 0001 0008 00 FF  0001 FE FFFFFFFFFF",
            "01 04 0001 0004 00 FF  01 01 41 62",
            "01 04 0001 0000 00 FF",
            "01 05 0001 0000 00 FF",
        ],
        {"A": "b"},
        "",
        "complete",
        id="reserved-octets-and-flags-are-ignored",
    ),
    pytest.param(
        ["01 01 0001 000A 00 00  0001 00 0000000000 FFFF", PARAMS, END_PARAMS, END_STDIN],
        {"A": "b"},
        "",
        "complete",
        id="begin-longer-than-8-octets",
    ),
    pytest.param(
        [
            BEGIN,
            PARAMS,
            "01 09 0000 0000 00 00",
            END_PARAMS,
            "01 09 0000 0000 00 00",
            HELLO,
            "01 63 0000 0000 00 00",
            END_STDIN,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="management-records-between",
    ),
    pytest.param(
        [
            BEGIN,
            "01 0C 0001 0002 01 00 FFFF 00",
            PARAMS,
            "01 FF 0001 0000 00 00",
            END_PARAMS,
            "01 08 0001 0001 00 00 78",
            HELLO,
            "01 06 0001 0001 00 00 78",
            END_STDIN,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="types-of-no-use-are-skipped",
    ),
    pytest.param(
        [
            "01 05 0007 0001 00 00 78",
            BEGIN,
            "01 04 0007 0004 00 00 01 01 58 78",
            PARAMS,
            "01 02 0007 0000 00 00",
            END_PARAMS,
            "01 05 0007 0001 00 00 78",
            HELLO,
            END_STDIN,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="records-of-unknown-requests-are-discarded",
    ),
    pytest.param(
        [
            BEGIN,
            PARAMS,
            "01 01 0002 0008 00 00 0001 01 0000000000",
            END_PARAMS,
            "01 04 0002 0004 00 00 01 01 58 78",
            HELLO,
            "01 05 0002 0001 00 00 78",
            END_STDIN,
        ],
        {"A": "b"},
        "hello",
        "complete",
        id="a-second-request-changes-nothing-of-the-first",
    ),
    pytest.param(
        [
            "01 01 FFFF 0008 00 00 0001 00 0000000000",
            "01 04 FFFF 0004 00 00 01 01 41 62",
            "01 04 FFFF 0000 00 00",
            "01 05 FFFF 0000 00 00",
        ],
        {"A": "b"},
        "",
        "complete",
        id="request-65535",
    ),
    pytest.param(
        [BEGIN, "01 04 0001 0022 00 00"]
        + ["0E 01 43 4F 4E 54 45 4E 54 5F 4C 45 4E 47 54 48 35"] * 2
        + [END_PARAMS, HELLO, END_STDIN],
        {"CONTENT_LENGTH": "5"},
        "hello",
        "complete",
        id="content-length-twice-the-same",
    ),
    pytest.param(
        [
            BEGIN,
            "01 04 0001 0018 00 00  08 02 48 54 54 50 5F 58 5F 41 31 31",
            "08 02 48 54 54 50 5F 58 5F 41 32 32",
            END_PARAMS,
            END_STDIN,
        ],
        {"HTTP_X_A": "11, 22"},
        "",
        "complete",
        id="repeated-header-as-nginx-sends-it",
    ),
    pytest.param(
        [
            BEGIN,
            "01 04 0001 001E 00 00  0B 02 48 54 54 50 5F 43 4F 4F 4B 49 45 61 31",
            "0B 02 48 54 54 50 5F 43 4F 4F 4B 49 45 62 32",
            END_PARAMS,
            END_STDIN,
        ],
        {"HTTP_COOKIE": "a1; b2"},
        "",
        "complete",
        id="repeated-cookie",
    ),
]

# octets, what they cannot be, HTTP status to answer with or 0
BROKEN = [
    pytest.param("47 45 54 20 2F 20 48 54 54 50", "version 71", 0, id="http"),
    pytest.param("00 01 0001 0008 00 00", "version 0", 0, id="version-0"),
    pytest.param("02 01 0001 0008 00 00", "version 2", 0, id="version-2"),
    pytest.param(BEGIN + PARAMS + "03 04 0001 0000 00 00", "version 3", 0, id="version-3-later"),
    pytest.param("01 01 0000 0008 00 00 0001 00 0000000000", "id 0", 0, id="begin-with-id-0"),
    pytest.param("01 01 0001 0007 00 00 0001 00 00000000", "7 octets", 0, id="begin-too-short"),
    pytest.param("01 01 0001 0000 00 00", "0 octets", 0, id="begin-empty"),
    pytest.param(BEGIN + BEGIN, "type 1", 0, id="begin-twice"),
    pytest.param(BEGIN + HELLO, "type 5", 400, id="stdin-before-the-parameters-end"),
    pytest.param(BEGIN + END_STDIN, "type 5", 400, id="stdin-end-before-the-parameters-end"),
    pytest.param("01 02 0000 0000 00 00", "type 2", 0, id="abort-with-id-0"),
    pytest.param("01 03 0000 0008 00 00 0000000000000000", "type 3", 0, id="end-with-id-0"),
    pytest.param("01 04 0000 0000 00 00", "type 4", 0, id="params-with-id-0"),
    pytest.param("01 05 0000 0000 00 00", "type 5", 0, id="stdin-with-id-0"),
    pytest.param("01 08 0000 0000 00 00", "type 8", 0, id="data-with-id-0"),
    pytest.param("01 09 0001 0000 00 00", "GET_VALUES", 0, id="get-values-with-an-id"),
    pytest.param(BEGIN + "01 09 0001 0000 00 00", "type 9", 0, id="get-values-with-the-id"),
    pytest.param("01 09 0000 0001 00 00 05", "pair", 400, id="get-values-malformed"),
    pytest.param(
        BEGIN + "01 04 0001 0004 00 00 01 05 41 62" + END_PARAMS, "pair", 400, id="value-past-end"
    ),
    pytest.param(
        BEGIN + "01 04 0001 0008 00 00 01 01 41 62 FFFFFFFF" + END_PARAMS,
        "pair",
        400,
        id="name-of-2-gib",
    ),
    pytest.param(
        BEGIN + "01 04 0001 0005 00 00 01 01 41 62 01" + END_PARAMS + END_STDIN,
        "pair",
        400,
        id="cut-pair-in-a-whole-request",
    ),
    pytest.param(
        BEGIN + LENGTH_5 + LENGTH_0 + END_PARAMS, "CONTENT_LENGTH", 400, id="two-content-lengths"
    ),
]

# octets, what was reported before they broke, and why
BROKEN_LATER = [
    pytest.param(BEGIN + END_PARAMS + PARAMS, "", "open", "type 4", id="params-after-their-end"),
    pytest.param(BEGIN + END_PARAMS + HELLO + BEGIN, "hello", "open", "type 1", id="begin-twice"),
    pytest.param(
        BEGIN + END_PARAMS + END_STDIN + HELLO, "", "complete", "type 5", id="stdin-after-its-end"
    ),
    pytest.param(
        BEGIN + END_PARAMS + HELLO + "00 05 0001 0000 00 00",
        "hello",
        "open",
        "version 0",
        id="version-0",
    ),
    pytest.param(
        BEGIN + PARAMS + END_PARAMS + END_STDIN + "47 45",
        "",
        "complete",
        "version 71",
        id="garbage-behind-a-request",
    ),
]

# octets in, octets out
REPLIES = [
    pytest.param("01 09 0000 0000 00 00", "01 0A 0000 0000 00 00", id="get-values-of-nothing"),
    pytest.param(
        "01 09 0000 0010 00 00  0E 00 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53",
        "01 0A 0000 0011 00 00  0E 01 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53 37",
        id="max-conns",
    ),
    pytest.param(
        "01 09 0000 0020 02 00  0F 00 46 43 47 49 5F 4D 50 58 53 5F 43 4F 4E 4E 53"
        "0D 00 46 43 47 49 5F 4D 41 58 5F 52 45 51 53 0000",
        "01 0A 0000 0023 00 00  0D 02 46 43 47 49 5F 4D 41 58 5F 52 45 51 53 31 36"
        "0F 01 46 43 47 49 5F 4D 50 58 53 5F 43 4F 4E 4E 53 30",
        id="max-reqs-and-mpxs-conns-as-haproxy-2.6-asks",
    ),
    pytest.param(
        "01 09 0000 0003 00 00  01 00 58", "01 0A 0000 0000 00 00", id="get-values-of-the-unknown"
    ),
    pytest.param(
        "01 09 0000 0020 00 00  0E 00 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53"
        "0E 00 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53",
        "01 0A 0000 0011 00 00  0E 01 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53 37",
        id="asked-twice-answered-once",
    ),
    pytest.param(
        "01 63 0000 0002 00 00 FFFF",
        "01 0B 0000 0008 00 00  63 00000000000000",
        id="unknown-management-type",
    ),
    pytest.param(
        "01 00 0000 0000 00 00", "01 0B 0000 0008 00 00  00 00000000000000", id="management-type-0"
    ),
    pytest.param(
        "01 01 0001 0008 00 00 0002 01 0000000000",
        "01 03 0001 0008 00 00  00000000 03 000000",
        id="authorizer-is-an-unknown-role",
    ),
    pytest.param(
        "01 01 0009 0008 00 00 0004 01 0000000000" + "01 04 0009 0004 00 00 01 01 41 62",
        "01 03 0009 0008 00 00  00000000 03 000000",
        id="role-4-is-unknown",
    ),
    pytest.param(
        BEGIN_KEEP + "01 01 0002 0008 00 00 0001 01 0000000000",
        "01 03 0002 0008 00 00  00000000 01 000000",
        id="a-second-request-cannot-be-multiplexed",
    ),
    pytest.param(
        BEGIN_KEEP + PARAMS + ABORT,
        "01 03 0001 0008 00 00  00000000 00 000000",
        id="abort-before-the-parameters-end",
    ),
    pytest.param("01 02 0001 0000 00 00", "", id="abort-of-an-unknown-request"),
    pytest.param("01 0C 0005 0000 00 00", "", id="unknown-type-of-an-unknown-request"),
]

STATUS_200 = "53 74 61 74 75 73 3A 20 32 30 30 20 4F 4B 0D 0A 0D 0A"  # "Status: 200 OK", blank line
END_STDOUT = "01 06 0001 0000 00 00"
END_REQUEST = "01 03 0001 0008 00 00  00000000 00 000000"
HEAD = "01 06 0001 0012 00 00" + STATUS_200
BODY = "01 06 0001 0005 00 00  68 65 6C 6C 6F"
STDERR = "01 07 0001 0003 00 00  6F 68 21"
END_STDERR = "01 07 0001 0000 00 00"

# octets, headers, body, stderr; status "200 OK"
RESPONSES = [
    pytest.param(HEAD + END_STDOUT + END_REQUEST, [], "", "", id="head-alone"),
    pytest.param(HEAD + BODY + END_STDOUT + END_REQUEST, [], "hello", "", id="head-and-body"),
    pytest.param(HEAD + BODY + END_REQUEST, [], "hello", "", id="no-empty-stdout"),
    pytest.param(
        "01 06 0001 0017 00 00" + STATUS_200 + "68 65 6C 6C 6F" + END_STDOUT + END_REQUEST,
        [],
        "hello",
        "",
        id="head-and-body-in-one-record",
    ),
    pytest.param(
        "".join(f"01 06 0001 0001 00 00 {octet}" for octet in STATUS_200.split())
        + BODY
        + END_REQUEST,
        [],
        "hello",
        "",
        id="a-record-for-each-octet-of-the-head",
    ),
    pytest.param(
        "01 06 0001 0007 00 00 58 3A 20 79 0A 0A 7A" + END_STDOUT + END_REQUEST,
        [("X", "y")],
        "z",
        "",
        id="lf-line-ends-and-no-status",
    ),
    pytest.param(
        STDERR + HEAD + STDERR + BODY + END_STDERR + END_STDOUT + END_REQUEST,
        [],
        "hello",
        "oh!oh!",
        id="stderr-between",
    ),
    pytest.param(
        HEAD + BODY + END_STDOUT + STDERR + END_STDERR + END_REQUEST,
        [],
        "hello",
        "oh!",
        id="stderr-after-stdout",
    ),
    pytest.param(
        "01 06 0001 0012 FF 00"
        + STATUS_200
        + "00" * 255
        + "01 06 0001 0000 08 00"
        + "00" * 8
        + "01 03 0001 0008 03 00  00000000 00 000000"
        + "00" * 3,
        [],
        "",
        "",
        id="padding",
    ),
    pytest.param(
        "01 0A 0000 0000 00 00" + HEAD + "01 0B 0000 0008 00 00 0900000000000000" + END_REQUEST,
        [],
        "",
        "",
        id="management-records-are-skipped",
    ),
    pytest.param(
        "01 0C 0001 0001 00 00 00" + HEAD + END_REQUEST, [], "", "", id="unknown-type-is-skipped"
    ),
    pytest.param(
        HEAD + "01 03 0001 0008 00 00  00000001 00 000000", [], "", "", id="appstatus-is-ignored"
    ),
]

# octets, why, HTTP status to answer with where nothing was reported before
BROKEN_RESPONSES = [
    pytest.param("48 54 54 50 2F 31 2E 31", "version 72", 502, id="http"),
    pytest.param(END_REQUEST, "head", 502, id="no-head"),
    pytest.param(END_STDOUT + END_REQUEST, "STDOUT", 502, id="empty-stdout-alone"),
    pytest.param("01 06 0001 0002 00 00 58 3A" + END_REQUEST, "head", 502, id="head-cut-off"),
    pytest.param(
        "01 06 0001 0004 00 00 58 0A 0A 79" + END_REQUEST, "header line", 502, id="no-header-line"
    ),
    pytest.param("01 03 0001 0008 00 00 00000000 01 000000", "rejected", 502, id="cant-mpx-conn"),
    pytest.param("01 03 0001 0008 00 00 00000000 02 000000", "rejected", 503, id="overloaded"),
    pytest.param("01 03 0001 0008 00 00 00000000 03 000000", "rejected", 502, id="unknown-role"),
    pytest.param("01 03 0001 0008 00 00 00000000 FF 000000", "rejected", 502, id="status-255"),
    pytest.param("01 03 0001 0007 00 00 00000000 00 0000", "7 octets", 502, id="end-too-short"),
    pytest.param("01 06 0002 0001 00 00 78", "request 2", 502, id="another-request"),
    pytest.param("01 05 0001 0001 00 00 78", "type 5", 502, id="stdin-from-a-backend"),
    pytest.param("01 0A 0001 0000 00 00", "type 10", 502, id="management-type-with-an-id"),
]

# the same after a head, which may have been reported
BROKEN_LATER_RESPONSES = [
    pytest.param(HEAD + END_STDOUT + BODY, "STDOUT", id="stdout-after-its-end"),
    pytest.param(HEAD + END_STDOUT + END_STDOUT, "STDOUT", id="stdout-ends-twice"),
    pytest.param(HEAD + BODY + "02 06 0001 0000 00 00", "version 2", id="version-2"),
    pytest.param(HEAD + "01 03 0001 0008 00 00 00000000 02 000000", "rejected", id="overloaded"),
    pytest.param(HEAD + END_REQUEST + END_REQUEST, "END_REQUEST", id="ended-twice"),
    pytest.param(HEAD + END_REQUEST + STDERR, "type 7", id="stderr-after-the-end"),
]
