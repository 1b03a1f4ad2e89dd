# ruff: noqa: E501 - documents read better unbroken
"""Small honest registries on ``Origin``: enough of each for its real client, and nothing more.

Each function serves one registry's paths and gives what a test compares with. Where a real
registry keeps files on another host, so do these: ``files`` is another origin.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import tarfile
import zipfile
from dataclasses import dataclass

from tests.fakes.origin import Origin, OriginRequest, Resource

MONTH = ("cache-control", "max-age=2592000")
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass(frozen=True, slots=True)
class File:
    """One file that a registry has: where, and its bytes."""

    path: str
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def noise(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes that no compression shortens, the same each time."""
    return random.Random(seed).randbytes(size_bytes)


def serve(origin: Origin, file: File, *headers: tuple[str, str]) -> File:
    """Serve a file with a strong entity tag."""
    origin.add(file.path, body=file.body, etag=f'"{file.sha256[:16]}"', headers=[*headers])
    return file


def wheel(name: str, version: str = "1.0") -> bytes:
    """An installable wheel with one module."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": f"VERSION = {version!r}\n".encode(),
        f"{name}_data.bin": noise(200_000),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in members).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in members.items():
            archive.writestr(zipfile.ZipInfo(path), body)
    return out.getvalue()


def pypi(index: Origin, files: Origin, name: str = "waterwheel") -> File:
    """A simple index, JSON or HTML by Accept, its one wheel and that wheel's metadata elsewhere."""
    body = wheel(name)
    file = serve(files, File(f"/packages/ab/{name}-1.0-py3-none-any.whl", body), MONTH)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        metadata = archive.read(f"{name}-1.0.dist-info/METADATA")
    about = serve(files, File(file.path + ".metadata", metadata), MONTH)
    address = files.url(file.path)
    html = (
        f'<!DOCTYPE html><html><body><a href="{address}#sha256={file.sha256}" '
        f'data-requires-python="&gt;=3.8" data-dist-info-metadata="sha256={about.sha256}" '
        f'data-core-metadata="sha256={about.sha256}">{file.path.rpartition("/")[2]}</a></body></html>'
    ).encode()
    document = {
        "meta": {"api-version": "1.0"},
        "name": name,
        "files": [
            {
                "filename": file.path.rpartition("/")[2],
                "url": address,
                "hashes": {"sha256": file.sha256},
                "core-metadata": {"sha256": about.sha256},
                "requires-python": ">=3.8",
            }
        ],
    }

    def page(request: OriginRequest) -> Resource:
        as_json = SIMPLE_JSON in (request.fields.combined("accept") or "")
        content = json.dumps(document).encode() if as_json else html
        kind = SIMPLE_JSON if as_json else "text/html"
        return Resource(
            body=content,
            etag=f'"{len(content)}"',
            headers=[("content-type", kind), ("vary", "accept"), ("cache-control", "max-age=600")],
        )

    index.add(f"/simple/{name}/", handler=page)
    return file


def npm(registry: Origin, tarballs: Origin, name: str = "waterwheel") -> File:
    """A packument and its one tarball."""
    package = json.dumps({"name": name, "version": "1.0.0"}).encode()
    members = {"package/package.json": package, "package/blob.bin": noise(100_000)}
    file = serve(tarballs, File(f"/{name}/-/{name}-1.0.0.tgz", _tar(members, "gz")), MONTH)
    sha512 = hashlib.sha512(file.body).digest()
    dist = {
        "tarball": tarballs.url(file.path),
        "shasum": hashlib.sha1(file.body).hexdigest(),
        "integrity": "sha512-" + base64.b64encode(sha512).decode(),
    }
    version = {"name": name, "version": "1.0.0", "dist": dist}
    packument = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    registry.add(
        f"/{name}",
        body=json.dumps(packument).encode(),
        etag='"p"',
        headers=[("content-type", "application/json"), ("cache-control", "max-age=300")],
    )
    return file


def _tar(members: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as archive:  # type: ignore[call-overload]
        for path, body in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def hub(hub_: Origin, store: Origin, repository: str = "org/model") -> tuple[File, File]:
    """A model hub with one large file, kept in a store that has other tags and signs each address
    anew, and one small file behind a relative redirect. Gives (large, small)."""
    large = File("/blobs/large.bin", noise(600_000, 2))
    small = File("/blobs/config.json", b'{"a": 1}')
    store.add(large.path, body=large.body, etag='"store-multipart-1"')
    signed = iter(range(1_000_000))
    # What the client would go to on its own, were it told of it.
    xet = [
        ("x-xet-hash", "f" * 64),
        ("link", f'<{hub_.url("/xet-auth")}>; rel="xet-auth", <{hub_.url("/xet-reconstruct")}>; rel="xet-reconstruction-info"'),
    ]  # fmt: skip

    def resolve_large(request: OriginRequest) -> Resource:
        return Resource(
            redirect_to=store.url(f"{large.path}?sig={next(signed)}"),
            headers=[
                ("x-repo-commit", COMMIT),
                ("x-linked-size", str(len(large.body))),
                ("x-linked-etag", f'"{large.sha256}"'),
                *xet,
            ],
        )

    for revision in ("main", COMMIT):
        hub_.add(f"/{repository}/resolve/{revision}/large.bin", handler=resolve_large)
        hub_.add(
            f"/{repository}/resolve/{revision}/config.json",
            status=307,
            redirect_to=f"/api/resolve-cache/models/{repository}/{COMMIT}/config.json",
            headers=[("x-repo-commit", COMMIT), ("x-linked-size", str(len(small.body)))],
        )
    hub_.add(
        f"/api/resolve-cache/models/{repository}/{COMMIT}/config.json",
        body=small.body,
        etag='"small-tag"',
        headers=[("x-repo-commit", COMMIT), ("content-type", "text/plain")],
    )
    sizes = {"large.bin": len(large.body), "config.json": len(small.body)}
    siblings = [{"rfilename": name} for name in sizes]
    info = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings,
            "private": False, "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
    tree = [
        {"type": "file", "oid": "0" * 40, "size": size, "path": name, "xetHash": "f" * 64}
        for name, size in sizes.items()
    ]
    kind = [("content-type", "application/json; charset=utf-8")]
    for path in (f"/api/models/{repository}", f"/api/models/{repository}/revision/main"):
        hub_.add(path, body=json.dumps(info).encode(), headers=kind)
    for revision in ("main", COMMIT):
        hub_.add(
            f"/api/models/{repository}/tree/{revision}",
            body=json.dumps(tree).encode(),
            headers=kind,
        )
    return large, small


@dataclass(frozen=True, slots=True)
class Image:
    """A container image of one layer."""

    manifest: File
    layer: File
    digest: str


def registry(
    origin: Origin,
    repository: str = "library/mill",
    token: str | None = None,
    login: str | None = None,
) -> Image:
    """A container registry with one image tagged ``latest``.

    With ``token`` everything wants it, and it is had at ``/token`` for the scope of exactly this
    repository, with ``login`` only by who shows that value of Authorization.
    """
    layer = File(f"/v2/{repository}/blobs/", _tar({"data.bin": noise(300_000, 3)}, ""))
    diff_id = f"sha256:{layer.sha256}"
    config_body = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()  # fmt: skip
    config = File(f"/v2/{repository}/blobs/", config_body)
    base = "application/vnd.oci.image"
    manifest_body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{base}.manifest.v1+json",
            "config": _descriptor(f"{base}.config.v1+json", config),
            "layers": [_descriptor(f"{base}.layer.v1.tar", layer)],
        }
    ).encode()
    manifest = File(f"/v2/{repository}/manifests/", manifest_body)
    digest = f"sha256:{manifest.sha256}"
    scope = f"repository:{repository}:pull"

    def guarded(resource: Resource) -> Resource:
        def answer(request: OriginRequest) -> Resource:
            if token is None or request.fields.get("authorization") == f"Bearer {token}":
                return resource
            challenge = f'Bearer realm="{origin.url("/token")}",service="mill",scope="{scope}"'
            return Resource(status=401, body=b"{}", headers=[("www-authenticate", challenge)])

        return Resource(handler=answer)

    for file in (layer, config):
        blob = Resource(body=file.body, headers=[("content-type", "application/octet-stream")])
        origin.put(f"{file.path}sha256:{file.sha256}", guarded(blob))
    kinds = [("content-type", f"{base}.manifest.v1+json"), ("docker-content-digest", digest)]
    for reference in ("latest", digest):
        answer = Resource(body=manifest.body, etag=f'"{digest}"', headers=kinds)
        origin.put(f"{manifest.path}{reference}", guarded(answer))
    origin.put("/v2/", guarded(Resource(body=b"{}")))

    def grant(request: OriginRequest) -> Resource:
        wanted = f"scope={scope.replace(':', '%3A').replace('/', '%2F')}"
        if login is not None and request.fields.get("authorization") != login:
            return Resource(status=401, body=b"{}", ranges=False)
        given = token if wanted in request.target else "worthless"
        return Resource(body=json.dumps({"token": given, "expires_in": 300}).encode())

    origin.add("/token", handler=grant)
    return Image(manifest, layer, digest)


def _descriptor(kind: str, file: File) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{file.sha256}", "size": len(file.body)}


def lfs(server: Origin, store: Origin, repository: str = "/mill.git") -> File:
    """A batch endpoint for one object, at an address that is signed anew for each answer."""
    file = File("/objects/one", noise(250_000, 4))
    serve(store, file)
    signed = iter(range(1_000_000))

    def batch(request: OriginRequest) -> Resource:
        href = store.url(f"{file.path}?sig={next(signed)}")
        item = {
            "oid": file.sha256,
            "size": len(file.body),
            "authenticated": True,
            "actions": {"download": {"href": href, "expires_in": 3600}},
        }
        return Resource(
            body=json.dumps({"transfer": "basic", "objects": [item]}).encode(),
            headers=[("content-type", "application/vnd.git-lfs+json")],
        )

    server.add(f"{repository}/info/lfs/objects/batch", handler=batch)
    return file


def crates(index: Origin, files: Origin, name: str = "waterwheel") -> File:
    """A sparse registry with one crate."""
    manifest = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n[lib]\n'.encode()
    top = f"{name}-1.0.0"
    body = _tar({f"{top}/Cargo.toml": manifest, f"{top}/src/lib.rs": b"pub fn turn() {}\n"}, "gz")
    file = serve(files, File(f"/crates/{name}/1.0.0/download", body), MONTH)
    kind = [("content-type", "application/json")]
    config = json.dumps({"dl": files.url("/crates"), "api": index.url()}).encode()
    index.add("/config.json", body=config, etag='"c"', headers=kind)
    line = {"name": name, "vers": "1.0.0", "deps": [], "cksum": file.sha256, "features": {}, "yanked": False}  # fmt: skip
    path = f"/{name[:2]}/{name[2:4]}/{name}"
    index.add(path, body=json.dumps(line).encode() + b"\n", etag='"i"')
    return file


def go_module(proxy: Origin, module: str = "mill.example/wheel") -> File:
    """A module proxy with one version of one module."""
    out = io.BytesIO()
    top = f"{module}@v1.0.0"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{top}/go.mod", f"module {module}\n\ngo 1.18\n")
        archive.writestr(f"{top}/wheel.go", "package wheel\n\nfunc Turn() {}\n")
    file = serve(proxy, File(f"/{module}/@v/v1.0.0.zip", out.getvalue()))
    info = json.dumps({"Version": "v1.0.0", "Time": "2024-01-01T00:00:00Z"}).encode()
    serve(proxy, File(f"/{module}/@v/v1.0.0.info", info))
    serve(proxy, File(f"/{module}/@v/v1.0.0.mod", f"module {module}\n\ngo 1.18\n".encode()))
    serve(proxy, File(f"/{module}/@v/list", b"v1.0.0\n"))
    return file


def apt(origin: Origin, name: str = "waterwheel") -> File:
    """An unsigned repository with one package and by-hash."""
    deb = serve(origin, File(f"/debian/pool/main/{name}_1.0_all.deb", _deb(name)))
    packages = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\n"
        f"Description: turns\nFilename: pool/main/{name}_1.0_all.deb\nSize: {len(deb.body)}\n"
        f"SHA256: {deb.sha256}\n\n"
    ).encode()
    sha256 = hashlib.sha256(packages).hexdigest()
    base = "/debian/dists/stable/main/binary-amd64"
    for path in (f"{base}/Packages", f"{base}/by-hash/SHA256/{sha256}"):
        serve(origin, File(path, packages))
    release = (
        "Origin: t\nSuite: stable\nCodename: stable\nComponents: main\nArchitectures: amd64 all\n"
        "Date: Mon, 01 Jan 2024 00:00:00 UTC\nAcquire-By-Hash: yes\n"
        f"SHA256:\n {sha256} {len(packages)} main/binary-amd64/Packages\n"
    ).encode()
    serve(origin, File("/debian/dists/stable/Release", release))
    return deb


def _deb(name: str) -> bytes:
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\n"
        "Description: turns\n"
    ).encode()
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"./control": control}, "gz"),
        "data.tar.gz": _tar({"./usr/share/waterwheel": noise(80_000, 5)}, "gz"),
    }
    out = b"!<arch>\n"
    for path, body in members.items():
        head = f"{path:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
        out += head.encode() + body + b"\n" * (len(body) % 2)
    return out
