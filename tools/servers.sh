#!/bin/sh
# Install the servers that the tests run, where this may be done; else say what is left out.
set -eu
# shellcheck source=tools/packages.sh
. "$(dirname "$0")/packages.sh"

need nginx-light /usr/sbin/nginx /usr/bin/nginx /usr/local/sbin/nginx
need apache2 /usr/sbin/apache2 /usr/sbin/httpd
need libapache2-mod-fcgid /usr/lib/apache2/modules/mod_fcgid.so /usr/lib64/httpd/modules/mod_fcgid.so
need lighttpd /usr/sbin/lighttpd
need haproxy /usr/sbin/haproxy
need spawn-fcgi /usr/bin/spawn-fcgi
need multiwatch /usr/bin/multiwatch
need chromium /usr/bin/chromium
need php-fpm /usr/sbin/php-fpm8.2 /usr/sbin/php-fpm8.3 /usr/sbin/php-fpm8.4 /usr/sbin/php-fpm
need uwsgi-core /usr/bin/uwsgi-core
need uwsgi-plugin-python3 /usr/lib/uwsgi/plugins/python3_plugin.so
need libtomcat10-java /usr/share/java/tomcat10-catalina.jar
need systemd /usr/bin/systemd-analyze
need wrk /usr/bin/wrk /usr/local/bin/wrk
need procps /bin/kill
need strace /usr/bin/strace
need valgrind /usr/bin/valgrind
need default-jre-headless /usr/bin/java

install_missing "The tests that run them are left out; in CI (CI=true) they fail instead."
