"""Apache Kafka's own tools and clients for the tests: fetched by Maven into .cache, run by Java.
Where either is out of reach, the calling test is skipped by name, saying why."""
import glob
import os
import shutil
import subprocess

import pytest
from appliance import ROOT

VERSION = "4.3.1"


def jars(pom="pom.xml", name="kafka"):
    """The folder of Kafka's jars; skips the test loudly when they cannot be had."""
    folder = os.path.join(ROOT, ".cache", f"{name}-{VERSION}")
    marker = os.path.join(folder, "complete")
    if os.path.exists(marker):
        return folder
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"Kafka's own tools are not proven: {tool} is not installed")
    p = subprocess.run(["mvn", "-q", "-B", "-f", os.path.join(ROOT, "tests/compat/java", pom),
                        "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
                        f"-DoutputDirectory={folder}"], text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    if p.returncode != 0:
        pytest.skip(f"Kafka's own tools are not proven: Maven could not fetch them: {p.stdout[-300:]}")
    open(marker, "w").close()
    return folder


def streams_jars():
    return jars("streams/pom.xml", "kafka-streams")


def run(main_class, *args, timeout=180):
    """One run of a tool. A tool lives for a second, most of which Java takes to load the same classes:
    the first run leaves them in an archive (class data sharing) that the next ones map. An archive of
    another Java or other jars is not used, by Java's own check; its remarks about it are no output of
    the tool."""
    folder = jars()
    archive = os.path.join(folder, "tools.jsa")
    made = f"{archive}.{os.getpid()}"
    is_there = os.path.exists(archive)
    java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xlog:disable",
            f"-XX:{'SharedArchiveFile' if is_there else 'ArchiveClassesAtExit'}={archive if is_there else made}",
            "-cp", ":".join(sorted(glob.glob(os.path.join(folder, "*.jar"))))]
    p = subprocess.run([*java, main_class, *args], text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    if os.path.exists(made):
        os.replace(made, archive)
    return p


def log_files(log_dir):
    found = []
    for base, _, files in os.walk(log_dir):
        found += [os.path.join(base, f) for f in files
                  if f.endswith((".log", ".index", ".timeindex", ".snapshot"))]
    return sorted(found)


def holes(out):
    """Offsets that do not follow one another. The tool itself starts every segment at -1, so "-1 is
    followed by N" in the segment named N is not one."""
    found, first = [], None
    for line in out.splitlines():
        if line.startswith("Non-consecutive offsets in "):
            first = int(os.path.basename(line.split(" in ", 1)[1]).split(".")[0])
        elif " is followed by " in line and line.strip() != f"-1 is followed by {first}":
            found.append(f"in segment {first}:{line}")
    return found


def assert_dump_is_clean(log_dir, compacted=False):
    """DumpLogSegments finds no damage, no index mismatch and no trailing bytes in any file.
    compacted: offsets may be missing."""
    files = log_files(log_dir)
    assert any(f.endswith(".log") for f in files), f"no segments in {log_dir}"
    out = ""
    for base in range(0, len(files), 200):
        some = files[base:base + 200]
        for flags in (["--deep-iteration"], ["--index-sanity-check"]):
            wanted = [f for f in some if f.endswith((".index", ".timeindex"))] \
                if "--index-sanity-check" in flags else some
            if not wanted:
                continue
            p = run("org.apache.kafka.tools.DumpLogSegments", *flags, "--files", ",".join(wanted))
            out += p.stdout
            assert p.returncode == 0, p.stdout[-4000:]
    bad = ([] if compacted else holes(out)) + [
        line for line in out.splitlines()
        if "isvalid: false" in line or "mismatch" in line.lower() or "Found invalid" in line
        or "invalid bytes" in line or "out of order" in line.lower() or "trailing bytes" in line
        or "Exception" in line or "corrupt" in line.lower() or "Index position" in line
        or "not found in the log" in line]
    assert not bad, "\n".join(bad[:20])
    return out
