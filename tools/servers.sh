#!/bin/sh
# Install the servers that the tests run, where this may be done; else say what is left out.
set -eu

missing=""
need() { # PACKAGE, then what shows that it is here
    package=$1
    shift
    for sign in "$@"; do
        [ -e "$sign" ] && return
    done
    missing="$missing $package"
}

need nginx-light /usr/sbin/nginx /usr/bin/nginx /usr/local/sbin/nginx
need apache2 /usr/sbin/apache2 /usr/sbin/httpd
need libapache2-mod-fcgid /usr/lib/apache2/modules/mod_fcgid.so /usr/lib64/httpd/modules/mod_fcgid.so
need lighttpd /usr/sbin/lighttpd
need haproxy /usr/sbin/haproxy
need spawn-fcgi /usr/bin/spawn-fcgi
need chromium /usr/bin/chromium
need php-fpm /usr/sbin/php-fpm8.2 /usr/sbin/php-fpm8.3 /usr/sbin/php-fpm8.4 /usr/sbin/php-fpm
need uwsgi-core /usr/bin/uwsgi-core
need uwsgi-plugin-python3 /usr/lib/uwsgi/plugins/python3_plugin.so
need libtomcat10-java /usr/share/java/tomcat10-catalina.jar
need systemd /usr/bin/systemd-analyze
need procps /bin/kill
need strace /usr/bin/strace
need valgrind /usr/bin/valgrind
need default-jre-headless /usr/bin/java
[ -n "$missing" ] || exit 0

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
    echo "The tests that run them are left out; in CI (CI=true) they fail instead." >&2
fi
