#!/bin/sh
# Make a virtual environment and install this project into it.
# Usage: tools/environment.sh DIRECTORY [EXTRA,EXTRA]
set -eu
directory=$1
extras=${2:-}

# The newest Python that this machine has, 3.11 at least; PYTHON names another.
find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Portico needs Python 3.11 or later; none was found. Name one: make PYTHON=..." >&2
    exit 1
}

python=$(find_python)
stamp="$directory/.made-for-$(echo "$extras" | tr ',' '-')"
if [ -e "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && "$directory/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
if ! "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$directory"
    if ! "$python" -m venv "$directory" 2>/dev/null; then
        # Debian keeps the venv module's parts in a package of its own.
        rm -rf "$directory"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            echo "Installing python3-venv ..." >&2
            apt-get update -qq >/dev/null && apt-get install -y -qq python3-venv >/dev/null
            "$python" -m venv "$directory"
        else
            echo "$python cannot make a virtual environment; install the package" >&2
            echo "python3-venv (Debian, Ubuntu) or virtualenv, then try again." >&2
            exit 1
        fi
    fi
fi
echo "Installing Portico into $directory ..." >&2
target=.
[ -z "$extras" ] || target=".[$extras]"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
    --editable "$target" 2>"$directory/pip.log" || {
    cat "$directory/pip.log" >&2
    exit 1
}
touch "$stamp"
