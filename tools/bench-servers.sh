#!/bin/sh
# Install what the benchmark runs and builds its peers with, where this may be done; else say what
# is left out.
set -eu
# shellcheck source=tools/packages.sh
. "$(dirname "$0")/packages.sh"

need nginx-light /usr/sbin/nginx /usr/bin/nginx /usr/local/sbin/nginx
need wrk /usr/bin/wrk /usr/local/bin/wrk
need apache2 /usr/sbin/apache2 /usr/sbin/httpd
need libtomcat10-java /usr/share/java/tomcat10-catalina.jar
need default-jre-headless /usr/bin/java
# to build uWSGI, bjoern and mod_wsgi; and mod_wsgi of the system, for a Python of root's own
need gcc /usr/bin/gcc /usr/bin/cc
need libc6-dev /usr/include/stdio.h
need python3-dev /usr/bin/python3-config
need libev-dev /usr/include/ev.h
need apache2-dev /usr/bin/apxs /usr/bin/apxs2
need libapache2-mod-wsgi-py3 /usr/lib/apache2/modules/mod_wsgi.so

install_missing "The benchmark needs nginx and wrk; what else is missing it leaves out, by name."
