# ruff: noqa: E501 - documents read better unbroken
"""More small honest registries, as ``registries``: maven, dnf, conda, and plain listings."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile

from tests.fakes.origin import Origin
from tests.fakes.registries import MONTH, File, noise, serve

_XML = ("content-type", "application/xml")


def maven(origin: Origin) -> tuple[File, File]:
    """A repository with a parent and an extension: what Maven resolves without any plugin.

    Gives (the parent's pom, the extension's jar).
    """

    def project(
        name: str, packaging: str, group: str = "example.mill", version: str = "1.0"
    ) -> bytes:
        return (
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            f"<groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
            f"<packaging>{packaging}</packaging></project>"
        ).encode()

    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
        archive.writestr("wheel.bin", noise(60_000, 6))
    base = "/maven/example/mill"
    files = [
        File(f"{base}/parent/1.0/parent-1.0.pom", project("parent", "pom")),
        File(f"{base}/wheel/1.0/wheel-1.0.pom", project("wheel", "jar")),
        File(f"{base}/wheel/1.0/wheel-1.0.jar", jar.getvalue()),
    ]
    # What Maven adds to every extension that does not bring it.
    plexus = "/maven/org/codehaus/plexus/plexus-utils/1.1/plexus-utils-1.1"
    pom = project("plexus-utils", "jar", "org.codehaus.plexus", "1.1")
    files += [File(f"{plexus}.pom", pom), File(f"{plexus}.jar", jar.getvalue())]
    for file in files:
        serve(origin, file)
        digest = hashlib.sha1(file.body).hexdigest().encode()
        serve(origin, File(f"{file.path}.sha1", digest))
    return files[0], files[2]


def dnf(origin: Origin, name: str = "waterwheel") -> File:
    """A repository with one package, which is good to download and not to install."""
    rpm = serve(origin, File(f"/dnf/packages/{name}-1.0-1.noarch.rpm", noise(90_000, 7)))
    primary = (
        '<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">'
        f'<package type="rpm"><name>{name}</name><arch>noarch</arch><version epoch="0" ver="1.0" rel="1"/>'
        f'<checksum type="sha256" pkgid="YES">{rpm.sha256}</checksum><summary>turns</summary><description>turns</description>'
        f'<packager/><url/><time file="1" build="1"/><size package="{len(rpm.body)}" installed="1" archive="1"/>'
        f'<location href="packages/{name}-1.0-1.noarch.rpm"/><format><rpm:license>x</rpm:license>'
        f'<rpm:provides><rpm:entry name="{name}" flags="EQ" epoch="0" ver="1.0" rel="1"/></rpm:provides></format></package></metadata>'
    ).encode()
    filelists = (
        '<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="1">'
        f'<package pkgid="{rpm.sha256}" name="{name}" arch="noarch"><version epoch="0" ver="1.0" rel="1"/></package></filelists>'
    ).encode()
    parts = ""
    for kind, content in (("primary", primary), ("filelists", filelists)):
        packed = gzip.compress(content, mtime=0)
        digest = hashlib.sha256(packed).hexdigest()
        path = f"repodata/{digest}-{kind}.xml.gz"
        serve(origin, File(f"/dnf/{path}", packed))
        parts += (
            f'<data type="{kind}"><checksum type="sha256">{digest}</checksum>'
            f'<open-checksum type="sha256">{hashlib.sha256(content).hexdigest()}</open-checksum>'
            f'<location href="{path}"/><timestamp>1</timestamp><size>{len(packed)}</size><open-size>{len(content)}</open-size></data>'
        )
    repomd = f'<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>{parts}</repomd>'
    serve(origin, File("/dnf/repodata/repomd.xml", repomd.encode()), _XML)
    return rpm


def conda(origin: Origin, name: str = "waterwheel") -> tuple[File, str]:
    """A channel with one package for every platform; the file, and the digest of its content."""
    content = noise(70_000, 8)
    digest = hashlib.sha256(content).hexdigest()
    index = {
        "name": name,
        "version": "1.0",
        "build": "0",
        "build_number": 0,
        "depends": [],
        "noarch": "generic",
        "subdir": "noarch",
    }
    paths = {
        "paths": [
            {
                "_path": "share/wheel.bin",
                "path_type": "hardlink",
                "sha256": digest,
                "size_in_bytes": len(content),
            }
        ],
        "paths_version": 1,
    }
    members = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps(paths).encode(),
        "info/files": b"share/wheel.bin\n",
        "share/wheel.bin": content,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as archive:
        for path, body in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    filename = f"{name}-1.0-0.tar.bz2"
    package = serve(origin, File(f"/conda/mill/noarch/{filename}", out.getvalue()))
    md5 = hashlib.md5(package.body).hexdigest()
    record = {**index, "md5": md5, "sha256": package.sha256, "size": len(package.body)}
    for subdir, packages in (("noarch", {filename: record}), ("linux-64", {})):
        repodata = {
            "info": {"subdir": subdir},
            "packages": packages,
            "packages.conda": {},
            "repodata_version": 1,
        }
        body = json.dumps(repodata).encode()
        serve(
            origin,
            File(f"/conda/mill/{subdir}/repodata.json", body),
            ("content-type", "application/json"),
        )
    return package, digest


def listing(origin: Origin) -> dict[str, File]:
    """A directory that an HTTP server lists, with a large file, a small one, and an odd name."""
    bodies = {"large.bin": noise(3_000_000, 9), "a b+c.txt": b"odd", "sub/deep.txt": b"deep"}
    dated = ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    files = {
        name: serve(origin, File(f"/files/{name.replace(' ', '%20')}", body), MONTH, dated)
        for name, body in bodies.items()
    }
    html = ("content-type", "text/html")
    root = b'<a href="../">..</a><a href="large.bin">large.bin</a><a href="a%20b+c.txt">a b+c.txt</a><a href="sub/">sub/</a>'
    origin.add("/files/", body=root, etag='"l"', headers=[html, MONTH])
    origin.add(
        "/files/sub/", body=b'<a href="deep.txt">deep.txt</a>', etag='"s"', headers=[html, MONTH]
    )
    return files
