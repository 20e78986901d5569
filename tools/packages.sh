# Functions for the scripts that install system packages: need, install_missing.
# shellcheck shell=sh

missing=""
need() { # PACKAGE, then what shows that it is here
    package=$1
    shift
    for sign in "$@"; do
        [ -e "$sign" ] && return
    done
    missing="$missing $package"
}

install_missing() { # what it means where they cannot be installed
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing$missing ..." >&2
        # The packages start their services on port 80 when they can; nothing here needs that.
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod +x /usr/sbin/policy-rc.d
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >/dev/null
        # shellcheck disable=SC2086 # a list of package names
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "Not installed, and not to be installed without root and apt:$missing." >&2
        echo "$1" >&2
    fi
}
