"""Inputs at addresses: an S3 server and web servers on loopback, real commands, hostile names, kills and changes."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import run_commands
from conftest import PROJECT
from dicom_studies import Study
from loopback import serving
from segue.acquire import bring_reference, download, mirror, references, stores
from segue.catalogue import open_dataset
from segue.core.addresses import address, is_address
from segue.core.errors import DataError, MachineError, UsageError
from segue.images import read, write
from segue.volume import Geometry, Volume
from segue.workflow.experiment import Experiment

pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

KEY, SECRET = "AKIAPLANTEDKEY00", "planted-secret-word"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An empty bucket ``clinic``; credentials and endpoint as people set them, in the environment."""
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none")),
        ("XDG_CONFIG_HOME", str(tmp_path / "config")),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="clinic")
    yield client
    for entry in client.list_objects_v2(Bucket="clinic").get("Contents", []):
        client.delete_object(Bucket="clinic", Key=entry["Key"])
    client.delete_bucket(Bucket="clinic")


def put(s3: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put_object(Bucket="clinic", Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which parts of which objects are asked for from now on, by key and size."""
    asked: list[tuple[str, int]] = []
    true = stores._Objects._chunks

    def counted(self: Any, key: str, start: int, stop: int) -> Iterator[bytes]:
        asked.append((key, stop - start))
        return true(self, key, start, stop)

    monkeypatch.setattr(stores._Objects, "_chunks", counted)
    return asked


def test_commands_take_addresses(s3: Any, blobs: Path, tmp_path: Path) -> None:
    put(s3, blobs, "studies/blobs")
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\nroot: s3://clinic/studies/blobs\nchannels: [{name: T1, unit: arbitrary}]\n"
        "labels: {1: bright, 2: dim}\nlayout: {kind: decathlon}\n"
    )
    with tarfile.open(work / "blobs.tar", "w") as archive:
        archive.add(blobs, "Blobs")
    s3.upload_file(str(work / "blobs.tar"), "clinic", "archives/blobs.tar")
    (work / "named.yaml").write_text((work / "mine.yaml").read_text().replace("root: s3://clinic/studies/blobs\n", ""))
    (work / "blobs.tar").unlink()
    image = "s3://clinic/studies/blobs/imagesTr/blob_00.nii.gz"
    folder = "s3://clinic/studies/blobs"
    done = run_commands(
        [
            ["check", folder],
            ["check", "mine.yaml", "-o", "checked"],
            ["check", image],
            ["get", "named.yaml", "--from", "s3://clinic/archives/blobs.tar"],
            ["prepare", folder, "--cache", "fast"],
            ["train", folder, "--steps", "2", "--cache", "fast"],
            ["predict", "runs/blobs", f"{folder}/imagesTs", "-o", "out"],
            ["evaluate", "runs/blobs"],
            ["check", folder, "-o", "s3://clinic/out"],
            ["train", folder, "--data=s3://clinic/studies"],
        ],
        work,
    )
    told = "\n".join(text for _, text in done)
    assert [code for code, _ in done] == [0, 0, 0, 0, 0, 0, 0, 0, 2, 2], told
    assert KEY not in told and SECRET not in told
    assert "22 files" in done[0][1] and "11 looked at: 0 errors" in done[0][1]
    assert "here already" in done[1][1] and "here already" in done[2][1]
    assert "21x18x16" in done[2][1] or "20x18x16" in done[2][1]
    assert content(work / "data" / "remote" / "s3" / "clinic" / "studies" / "blobs") == content(blobs)
    # What is made of the images lies where --cache says; what is written of results names no credentials.
    assert (work / "fast").is_dir() and "fast" in done[4][1]
    assert read(work / "out" / "blob_99.nii.gz", kind="labels").array.shape[1:] == (20, 18, 16)
    for path in work.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    assert "must lie on a disk" in done[8][1] and "must lie on a disk" in done[9][1]
    assert not (work / "s3:").exists()


def test_dicom_studies_are_converted_from_an_address(s3: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    Study(tmp_path / "export").add("PT", np.abs(random.normal(4000, 1500, (8, 16, 16))))
    put(s3, tmp_path / "export", "pacs/2025")
    work = tmp_path / "work"
    work.mkdir()
    local, remote = run_commands(
        [["convert", tmp_path / "export", "a"], ["convert", "s3://clinic/pacs", "b", "--data", "near"]], work
    )
    assert (local[0], remote[0]) == (0, 0), (local, remote)
    one, other = ({name: data for name, data in content(work / each).items() if name.endswith(".gz")} for each in "ab")
    assert one and one == other
    assert (work / "near" / "remote" / "s3" / "clinic" / "pacs" / "2025").is_dir()


def test_what_came_is_not_fetched_again_and_changes_are(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.nii", "b.nii", "c.nii", "d.nii"):
        s3.put_object(Bucket="clinic", Key=f"set/{name}", Body=name.encode() * 50)
    s3.put_object(Bucket="clinic", Key="set/empty/", Body=b"")  # what consoles put there as a folder
    s3.put_object(Bucket="clinic", Key="set/.DS_Store", Body=b"litter")
    s3.put_object(Bucket="clinic", Key="set/nothing.txt", Body=b"")
    place = Path(bring_reference("s3://clinic/set", tmp_path))
    assert sorted(content(place)) == ["a.nii", "b.nii", "c.nii", "d.nii", "nothing.txt"]

    asked = fetched(monkeypatch)
    (place / "verdicts.csv").write_text("mine")  # a person's own
    (place / "d.nii").write_text("edited here")
    s3.put_object(Bucket="clinic", Key="set/b.nii", Body=b"B.NII" * 50)  # the same size
    s3.delete_object(Bucket="clinic", Key="set/c.nii")
    (place / "a.nii").unlink()
    capsys.readouterr()
    bring_reference("s3://clinic/set/", tmp_path)
    assert sorted({key for key, _ in asked}) == ["set/a.nii", "set/b.nii"]
    assert content(place) == {
        "a.nii": b"a.nii" * 50,
        "b.nii": b"B.NII" * 50,
        "d.nii": b"edited here",
        "nothing.txt": b"",
        "verdicts.csv": b"mine",
    }
    assert "changed here since it came, and left so: set/d.nii" in capsys.readouterr().err

    asked.clear()
    assert Path(bring_reference("s3://clinic/set/b.nii", tmp_path)) == place / "b.nii"
    assert asked == [] and "1 file, here already" in capsys.readouterr().err


def test_what_changes_while_it_comes_is_refused(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store answers for the state that was listed, or not at all."""
    for name in ("a.nii", "b.nii"):
        s3.put_object(Bucket="clinic", Key=f"set/{name}", Body=b"old" * 400)
    true = stores._Objects._chunks

    def after_a_change(self: Any, key: str, start: int, stop: int) -> Iterator[bytes]:
        s3.put_object(Bucket="clinic", Key="set/b.nii", Body=b"new" * 400)
        return true(self, key, start, stop)

    monkeypatch.setattr(stores._Objects, "_chunks", after_a_change)
    with pytest.raises(DataError, match=r"(?s)changed while it was brought.*b\.nii.*run the same command again"):
        bring_reference("s3://clinic/set", tmp_path)
    monkeypatch.setattr(stores._Objects, "_chunks", true)
    place = Path(bring_reference("s3://clinic/set", tmp_path))
    assert content(place) == {"a.nii": b"old" * 400, "b.nii": b"new" * 400}


def test_a_change_is_seen_where_the_store_does_not_look(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores ignore If-Match: what lies there afterwards is compared with what was listed before."""
    s3.put_object(Bucket="clinic", Key="set/a.nii", Body=b"old" * 400)

    def unguarded(self: Any, key: str, start: int, stop: int) -> Iterator[bytes]:
        s3.put_object(Bucket="clinic", Key="set/a.nii", Body=b"new" * 400)
        yield s3.get_object(Bucket="clinic", Key=key)["Body"].read()[start:stop]

    true = stores._Objects._chunks
    monkeypatch.setattr(stores._Objects, "_chunks", unguarded)
    with pytest.raises(DataError, match="changed while it was brought"):
        bring_reference("s3://clinic/set", tmp_path)
    asked = fetched(monkeypatch)
    monkeypatch.setattr(stores._Objects, "_chunks", true)
    assert content(Path(bring_reference("s3://clinic/set", tmp_path))) == {"a.nii": b"new" * 400}
    assert asked == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from segue.acquire import bring_reference, mirror
true, done = mirror._Record.add, []
def add(self, *arguments):
    true(self, *arguments)
    done.append(1)
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
mirror._Record.add = add
bring_reference("s3://clinic/set", Path(sys.argv[1]))
"""


def test_killed_it_goes_on(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    objects = {f"{n:02d}.nii": random.bytes(20_000 + n) for n in range(30)}
    for name, body in objects.items():
        s3.put_object(Bucket="clinic", Key=f"set/{name}", Body=body)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    shelf = tmp_path / "remote" / "s3" / "clinic"
    record = shelf.with_name(".clinic.came")
    with record.open("a") as out:
        out.write('{"name": "set/00')  # a line that the kill has torn
    kept = [json.loads(line)["name"] for line in record.read_text().splitlines()[:-1] if line.strip()]
    assert 3 <= len(kept) < 30
    for path in shelf.rglob("*.nii"):
        assert path.name.startswith(".") or path.read_bytes() == objects[path.name], "a half file under its own name"

    asked = fetched(monkeypatch)
    place = Path(bring_reference("s3://clinic/set", tmp_path))
    assert content(place) == objects  # whole, and no temporary file is left
    assert not {key for key, _ in asked} & set(kept)
    assert sorted(path.name for path in shelf.parent.iterdir()) == [".clinic.came", "clinic"]


def test_of_a_large_object_only_the_rest_comes(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = np.random.default_rng(2).bytes(3_000_000)
    s3.put_object(Bucket="clinic", Key="large.tar", Body=body)
    monkeypatch.setattr(download, "_PIECE", 500_000)
    monkeypatch.setattr(download, "CONNECTIONS", 1)
    true = stores._Objects._chunks

    def broken(self: Any, key: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= 1_500_000:
            raise stores.RefusedError("the line is cut")
        return true(self, key, start, stop)

    monkeypatch.setattr(stores._Objects, "_chunks", broken)
    with pytest.raises(MachineError, match=r"cannot be reached \(large\.tar: the line is cut"):
        bring_reference("s3://clinic/large.tar", tmp_path)
    assert not (tmp_path / "remote" / "s3" / "clinic" / "large.tar").exists()
    monkeypatch.setattr(stores._Objects, "_chunks", true)
    asked = fetched(monkeypatch)
    assert Path(bring_reference("s3://clinic/large.tar", tmp_path)).read_bytes() == body
    assert sum(size for _, size in asked) == 1_500_000


@pytest.mark.parametrize(
    "name", ["a/../../../../x.nii", "a//x.nii", "a/./x.nii", "a\\..\\x.nii", "C:x.nii", "a/\x1b[2Jx"]
)
def test_a_hostile_name_goes_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Any, name: str) -> None:
    s3.put_object(Bucket="clinic", Key="set/good.nii", Body=b"good")
    true = stores._Objects._find

    def with_it(self: Any) -> dict[str, dict[str, Any]]:
        return {**true(self), f"clinic/set/{name}" if name[1] != ":" else f"clinic/{name}": {"size": 4, "ETag": "x"}}

    monkeypatch.setattr(stores._Objects, "_find", with_it)
    with pytest.raises(DataError, match="nothing was brought") as caught:
        bring_reference("s3://clinic/set", tmp_path / "data")
    assert "\x1b" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_hostile_name_in_a_true_bucket(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="clinic", Key="set/../../../../x.nii", Body=b"evil")
    with pytest.raises(DataError, match="leaves its folder"):
        bring_reference("s3://clinic/set", tmp_path / "data")
    s3.put_object(Bucket="clinic", Key="two/case", Body=b"file")
    s3.put_object(Bucket="clinic", Key="two/case/x.nii", Body=b"file")
    with pytest.raises(DataError, match="a file and a folder there have the same name"):
        bring_reference("s3://clinic/two", tmp_path / "data")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    s3.put_object(Bucket="clinic", Key="odd/[x]* #ä?%2e.nii", Body=b"odd, and harmless")
    assert list(content(Path(bring_reference("s3://clinic/odd", tmp_path)))) == ["[x]* #ä?%2e.nii"]


def test_errors_say_what_to_do(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(reference: str) -> tuple[type[BaseException], str]:
        with pytest.raises((UsageError, DataError, MachineError)) as caught:
            bring_reference(reference, tmp_path)
        assert KEY not in str(caught.value) and SECRET not in str(caught.value)
        return caught.type, str(caught.value)

    kind, text = refused("s3://clinic/nothing/here")
    assert kind is UsageError and "nothing lies at this address" in text
    kind, text = refused("s3://no-such-bucket/x")
    assert kind is UsageError and text.startswith("s3://no-such-bucket: there is no such bucket")
    for text in ("az://a/b", "file:///etc/passwd", "ftp://host/x"):
        assert "this kind of address is not read" in refused(text)[1] if is_address(text) else text.startswith("file")
    for text in ("s3://clinic/../other/x", "s3://clinic/a//b", "https://host/%2e%2e/x", "https://host/a%2f..%2fx"):
        assert "names no file or folder" in refused(text)[1]

    s3.put_object(Bucket="clinic", Key="set/a.nii", Body=b"a")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        kind, text = refused("s3://clinic/set/a.nii")
        assert kind is MachineError and "no credentials were found" in text and "AWS_PROFILE" in text
        s3.put_bucket_acl(Bucket="clinic", ACL="public-read")
        s3.put_object(Bucket="clinic", Key="set/a.nii", Body=b"a", ACL="public-read")
        assert Path(bring_reference("s3://clinic/set", tmp_path)).is_dir()  # a public bucket asks for none
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setattr("s3fs.core.S3FileSystem.retries", 1)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        kind, text = refused("s3://clinic/set")
        assert kind is MachineError and "cannot be reached (EndpointConnectionError)" in text
    with monkeypatch.context() as patch:
        patch.setattr(stores.importlib.util, "find_spec", lambda name: None)
        assert 'pip install "segue[s3]"' in refused("s3://clinic/set")[1]
        assert 'pip install "segue[gs]"' in refused("gs://clinic/set")[1]


def test_a_full_disk_is_told_before_anything_comes(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket="clinic", Key="set/a.nii", Body=b"a" * 1000)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("segue.acquire.archives.shutil.disk_usage", lambda path: usage)
    with pytest.raises(MachineError, match="too small for this"):
        bring_reference("s3://clinic/set", tmp_path)


def test_a_web_server_gives_single_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    image = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    write(Volume(image, Geometry((3, 4, 5), np.eye(4))), site / "ab" / "case.nii.gz")
    with serving(site) as (url, habits):
        secret = url.replace("http://", "http://somebody:planted-word@") + "/ab/case.nii.gz?signature=planted-word"
        place = Path(bring_reference(secret, tmp_path))
        assert np.array_equal(read(place).array, image)
        assert place.relative_to(tmp_path / "remote" / "http").parts[1:] == ("ab", "case.nii.gz")
        asked = len(habits.requests)
        bring_reference(secret.replace("=planted", "=another-planted"), tmp_path)  # signed anew, and the same file
        assert len(habits.requests) == asked + 1
        write(Volume(image + 1, Geometry((3, 4, 5), np.eye(4))), site / "ab" / "case.nii.gz")
        assert np.array_equal(read(Path(bring_reference(secret, tmp_path))).array, image + 1)
        with pytest.raises(UsageError, match="this address gives no file") as caught:
            bring_reference(secret.replace("case", "none"), tmp_path)
        habits.page = ("text/html", b"<html>please log in</html>")
        with pytest.raises(UsageError, match="a web page"):
            bring_reference(secret, tmp_path)
        habits.page = None
        habits.busy, habits.retry_after = 1, "0"
        with pytest.raises(MachineError, match="cannot be reached"):
            bring_reference(secret, tmp_path)
    said = str(caught.value) + capsys.readouterr().err
    assert "planted-word" not in said
    for path in (tmp_path / "remote").rglob("*"):
        assert not path.is_file() or b"planted-word" not in path.read_bytes()


def test_https_needs_a_certificate_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = _self_signed(tmp_path)
    write(Volume(np.ones((1, 3, 4, 5), np.int16), Geometry((3, 4, 5), np.eye(4))), tmp_path / "site" / "case.nii.gz")
    body = (tmp_path / "site" / "case.nii.gz").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"https://localhost:{server.server_port}/case.nii.gz"
        with pytest.raises(MachineError, match=r"cannot be reached.*certificate"):
            bring_reference(url, tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(Path(bring_reference(url, tmp_path))).array.shape == (1, 3, 4, 5)
    finally:
        server.shutdown()
        server.server_close()


def _self_signed(folder: Path) -> Path:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_an_address_is_known_by_its_form() -> None:
    assert all(
        is_address(text) for text in ("s3://b/x", "s3:/b/x", Path("s3://b/x"), "gs://b", "https://h/x", "az://c")
    )
    assert not any(is_address(text) for text in ("a/b", "msd/liver", "C:\\x", "/s3/x", "file.nii", "a:b", "tcp:8786"))
    assert str(address("https://user:word@Host:8443/a/b.nii.gz?key=word")) == "https://host:8443/a/b.nii.gz"
    assert "word" not in repr(address("https://user:word@host/a?key=word"))
    assert address("s3://b/a/").place(Path("data")) == address(Path("s3://b/a")).place(Path("data"))
    assert Experiment(dataset="s3://b/studies/liver").run_folder == Path("runs/liver")


def test_what_lies_here_costs_no_import(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(b"")
    code = (
        "import sys; from segue.cli.options import at_hand; from pathlib import Path; at_hand('x.nii', Path('data'));"
        "print([m for m in sys.modules if m.split('.')[0] in ('fsspec', 's3fs', 'httpx') or m == 'segue.acquire'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_dataset_that_was_not_brought_says_how(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not here yet"):
        open_dataset("s3://clinic/liver", tmp_path)
    assert references.bring_reference("msd/liver", tmp_path) == "msd/liver"
    assert mirror._AT_ONCE > 1
