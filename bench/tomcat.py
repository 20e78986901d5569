"""Tomcat 10 with an AJP connector and a servlet that answers as application.py does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import application
from machinery import NotStarted, find

JARS = Path("/usr/share/java")

_SERVER = """<?xml version="1.0"?>
<Server port="-1">
  <Service name="Catalina">
    <Connector protocol="AJP/1.3" address="127.0.0.1" port="{port}" secretRequired="false"
               maxThreads="{threads}" maxConnections="8192" acceptCount="1000"
               keepAliveTimeout="600000" connectionTimeout="600000"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false" deployOnStartup="false">
        <Context path="" docBase="{home}/site"/>
      </Host>
    </Engine>
  </Service>
</Server>
"""

_WEB = """<?xml version="1.0"?>
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0" metadata-complete="true">
  <servlet>
    <servlet-name>answers</servlet-name><servlet-class>Answers</servlet-class>
    <load-on-startup>1</load-on-startup>
  </servlet>
  <servlet-mapping>
    <servlet-name>answers</servlet-name><url-pattern>/*</url-pattern>
  </servlet-mapping>
</web-app>
"""


def prepare(home: Path, port: int, threads: int) -> list[str]:
    """Compile the servlet and write the configuration; gives the command.

    Raises:
        NotStarted: Java or Tomcat is not here, or the servlet does not compile.
    """
    java = find("java")
    if not java or not (JARS / "tomcat10-catalina.jar").exists():
        raise NotStarted("Java or Tomcat 10 (Debian's libtomcat10-java) is not installed")
    for name in ("conf", "site/WEB-INF/classes", "content", "logs", "temp", "work", "webapps"):
        (home / name).mkdir(parents=True)
    (home / "conf/server.xml").write_text(_SERVER.format(home=home, port=port, threads=threads))
    (home / "site/WEB-INF/web.xml").write_text(_WEB)
    for name in ("hello", "page", "body"):
        (home / "content" / name).write_bytes(getattr(application, name.upper()))
    source = Path(__file__).with_name("Answers.java")
    compiling = [
        java, "-cp", str(JARS / "eclipse-jdt-core.jar"),
        "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-proc:none", "-nowarn",
        "-cp", str(JARS / "tomcat10-servlet-api.jar"),
        "-d", str(home / "site/WEB-INF/classes"), str(source),
    ]  # fmt: skip
    run = subprocess.run(compiling, capture_output=True, text=True, check=False, timeout=120)
    if run.returncode:
        raise NotStarted(f"the servlet does not compile: {run.stderr[-500:]}")
    # the links without a version in their names: each jar once
    jars = [jar for jar in JARS.glob("tomcat10-*.jar") if not jar.stem[-1].isdigit()]
    return [
        java, "-Xmx256m", "-XX:+UseSerialGC",
        f"-Dcatalina.base={home}", f"-Dcatalina.home={home}", f"-Djava.io.tmpdir={home}/temp",
        f"-Dbench.content={home}/content",
        "-cp", ":".join(map(str, [*jars, JARS / "eclipse-jdt-core.jar"])),
        "org.apache.catalina.startup.Tomcat", "--no-jmx", "--await",
    ]  # fmt: skip


def version() -> str:
    """Give the version of the installed jars, or nothing."""
    found = sorted(JARS.glob("tomcat10-catalina-[0-9]*.jar"))
    return found[-1].stem.removeprefix("tomcat10-catalina-") if found else ""
