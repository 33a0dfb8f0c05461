"""The page behind a real nginx, with a real identity provider and beside a real Orthanc: ``make test-services``."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pydicom
import pytest
from playwright.sync_api import BrowserContext, Page

from a3tune.bundle import EXAMPLES
from a3tune.dicomweb.client import DicomWeb
from a3tune.dicomweb.settings import Server
from tests.app.conftest import SCREENSHOTS

ROOT = Path(__file__).resolve().parents[2]
# The folder with the identity provider's node_modules: `make test-services` names it.
SERVICES = os.environ.get("A3TUNE_SERVICES", "")
pytestmark = pytest.mark.skipif(not SERVICES, reason="make test-services installs what this needs")

SECRET, ARCHIVE_PASSWORD = "a secret of the test", "archive"


class House(NamedTuple):
    """Everything that runs: the page's address behind nginx, the server's own, where it keeps things, the provider, the
    archive."""

    page: str
    server: str
    audit: Path
    log: Path
    issuer: str
    certificate: Path
    archive: Server


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def answers(url: str, **options) -> bool:
    try:
        httpx.get(url, trust_env=False, **options)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def started(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            end = time.monotonic() + 60
            while not ready():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def nginx_settings(folder: Path, port: int, studio: int, orthanc: int) -> str:
    """The file that is handed out, with this machine's ports and places in it."""
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    changes = {
        "studio:7860": f"127.0.0.1:{studio}", "orthanc:8042": f"127.0.0.1:{orthanc}", "/etc/nginx/tls": str(folder),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "/run/nginx.pid": f"{folder}/nginx.pid",
    }  # fmt: skip
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    return f"daemon off;\n{text}"


@pytest.fixture(scope="module")
def house(serve, tmp_path_factory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("services")
    folder.chmod(0o755)
    port, provider_port, orthanc_port, dicom_port = free_ports(4)
    issuer, page = f"http://127.0.0.1:{provider_port}", f"https://localhost:{port}/studio"
    certificate = folder / "server.crt"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "server.key")]
    subprocess.run([*request, "-out", str(certificate)], check=True, capture_output=True)
    archive = {
        "Name": "Studio", "HttpPort": orthanc_port, "DicomPort": dicom_port, "RemoteAccessAllowed": True,
        "StorageDirectory": str(folder / "archive"), "IndexDirectory": str(folder / "archive"),
        "RegisteredUsers": {"studio": ARCHIVE_PASSWORD},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(archive))
    audit = folder / "kept" / "audit.jsonl"
    variables = {
        "A3TUNE_OIDC_ISSUER": issuer, "A3TUNE_OIDC_CLIENT": "studio", "A3TUNE_OIDC_SECRET": SECRET,
        "A3TUNE_TUNERS": "staff", "A3TUNE_OPERATORS": "admins", "A3TUNE_AUDIT": str(audit), "A3TUNE_LOG": "text",
        "A3TUNE_STUDIO": str(folder / "studio"), "A3TUNE_HOSTS": "localhost",
        "A3TUNE_DICOMWEB": f"http://127.0.0.1:{orthanc_port}/dicom-web", "A3TUNE_DICOMWEB_USER": "studio",
        "A3TUNE_DICOMWEB_PASSWORD": ARCHIVE_PASSWORD, "A3TUNE_DICOMWEB_STORE": "yes",
    }  # fmt: skip
    with ExitStack() as stack:
        provider = ["node", str(ROOT / "tests" / "support" / "provider.mjs"), SERVICES, issuer]
        provider.append(f"{page}/login/callback")
        stack.enter_context(started(provider, folder / "provider.log", lambda: answers(issuer)))
        served = stack.enter_context(serve("--deployment", "server", "--login", "oidc", **variables))
        orthanc = [shutil.which("Orthanc") or "Orthanc", str(folder / "orthanc.json")]
        ready = f"http://127.0.0.1:{orthanc_port}/"
        stack.enter_context(started(orthanc, folder / "orthanc.log", lambda: answers(ready)))
        settings = nginx_settings(folder, port, int(served.url.rsplit(":", 1)[1]), orthanc_port)
        (folder / "nginx.conf").write_text(settings)
        nginx = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        trusted = ssl.create_default_context(cafile=str(certificate))
        stack.enter_context(started(nginx, folder / "nginx.log", lambda: answers(f"{page}/", verify=trusted)))
        named = Server(variables["A3TUNE_DICOMWEB"], "studio", ARCHIVE_PASSWORD, store=True)
        yield House(page, served.url, audit, served.log, issuer, certificate, named)


@pytest.fixture
def context(browser) -> Iterator[BrowserContext]:
    made = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    made.set_default_timeout(60_000)
    yield made
    made.close()


def sign_in(page: Page, house: House, name: str) -> None:
    """From the page's address through the provider and back."""
    page.goto(f"{house.page}/")
    assert page.url == f"{house.page}/login"
    page.get_by_role("link", name="Sign in at 127.0.0.1").click()
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.wait_for_load_state()
    if page.url.startswith(house.issuer):  # it asks whether this server may know who one is
        page.click("button[type=submit]")


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"services-{name}.png")


def noted(house: House) -> list[dict]:
    return [json.loads(line) for line in house.audit.read_text().splitlines()]


def test_a_person_signs_in_asks_and_signs_out_behind_nginx(house, context):
    asked, complaints = [], []

    def take_note(request) -> None:
        # The provider's own page asks for fonts.
        if not request.is_navigation_request() and request.frame.url.startswith(house.page):
            asked.append(request.url)

    context.on("request", take_note)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{house.page}/")
    picture(page, "sign-in")
    sign_in(page, house, "ann")
    page.wait_for_selector(".stage[data-shown$='ready']")
    assert page.url.partition("#")[0] == f"{house.page}/"
    page.wait_for_selector(".person:not([hidden])")
    assert page.locator(".person span").inner_text() == "Person ann · tuner"
    before = page.locator(".stage").get_attribute("data-result")
    page.locator("#question textarea, #question input").first.fill("Is there a mass?")
    page.locator("#ask").click()
    page.wait_for_function(
        "before => { const {result} = document.querySelector('.stage').dataset;"
        " return result !== before && result.endsWith('complete'); }",
        arg=before,
    )
    picture(page, "signed-in")
    scan = {
        "name": "Erika-Mustermann.png",
        "mimeType": "image/png",
        "buffer": next(EXAMPLES.glob("*.png")).read_bytes(),
    }
    page.set_input_files("#upload input[type=file]", scan)
    page.wait_for_selector(".stage[data-shown$='image']")
    page.get_by_role("tab", name="Models").click()
    page.get_by_text("the role operator").first.wait_for()
    cookies = {cookie["name"]: cookie for cookie in context.cookies(house.page)}
    session = cookies["a3tune-session"]
    assert (session["httpOnly"], session["secure"], session["sameSite"]) == (True, True, "Lax")
    assert (session["path"], session["expires"]) == ("/studio", -1)
    hosts = {re.match(r"(\w+://[^/]+)", url)[1] for url in asked if url.startswith("http")}
    assert hosts == {house.page.removesuffix("/studio")}
    # In another tab the person signs out: this one goes too.
    other = context.new_page()
    other.goto(f"{house.page}/")
    other.get_by_role("button", name="Sign out").click()
    other.get_by_text("You are signed out").wait_for()
    assert other.get_by_role("link", name="Sign out at the identity provider too").is_visible()
    picture(other, "signed-out")
    page.bring_to_front()
    # The browser keeps the name of the tab that was on show.
    page.wait_for_url(re.compile(rf"{re.escape(house.page)}/login(#\w*)?$"))
    assert complaints == []
    acts = [(line["act"], line["who"].get("subject")) for line in noted(house)]
    assert acts == [("sign-in", "ann"), ("image-open", "ann"), ("sign-out", "ann")]
    assert not re.search("mass|Mustermann|png", house.audit.read_text())


def test_somebody_of_no_named_group_stays_outside(house, context):
    page = context.new_page()
    sign_in(page, house, "eve")
    page.get_by_text("None of your groups may come in here").wait_for()
    picture(page, "outside")
    page.goto(f"{house.page}/")
    assert page.url == f"{house.page}/login"
    assert noted(house)[-1]["act"] == "sign-in-refused"


def test_answers_stream_through_nginx_and_end_with_the_login(house, context):
    sign_in(context.new_page(), house, "bob")
    session = next(cookie["value"] for cookie in context.cookies(house.page) if cookie["name"] == "a3tune-session")
    trusted = ssl.create_default_context(cafile=str(house.certificate))
    cookie = {"cookie": f"a3tune-session={session}"}
    with httpx.Client(base_url=house.page, headers=cookie, verify=trusted, timeout=60, trust_env=False) as client:
        assert client.get("/config").json()["root"] == house.page
        with client.stream("GET", "/gradio_api/heartbeat/page-of-bob") as open_page:
            parts = open_page.iter_raw()
            # It never ends by itself: what comes was not held back.
            assert next(parts)
            assert client.post("/logout", headers={"origin": house.page.removesuffix("/studio")}).status_code == 200
            assert b"".join(parts) in (b"", b"0\r\n\r\n")
        assert client.get("/config").status_code == 401


def test_nginx_hands_on_nothing_but_the_page(house):
    trusted = ssl.create_default_context(cafile=str(house.certificate))
    with httpx.Client(base_url=house.page, verify=trusted, trust_env=False) as client:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert client.get(path).status_code == 404
        for path in ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=abcd", "/assets/x.js"):
            assert client.get(path).status_code == 401
        answer = client.get("/", headers={"x-forwarded-prefix": "//evil.example", "x-forwarded-for": "127.0.0.1"})
        assert answer.headers["location"] == "/studio/login"
        assert client.post("/logout", headers={"origin": "https://evil.example"}).status_code == 403
    assert httpx.get(f"{house.server}/readyz", trust_env=False).status_code in (200, 503)


def test_the_archive_is_reached_with_its_password(house):
    trusted = ssl.create_default_context(cafile=str(house.certificate))
    address = house.page.replace("/studio", "/orthanc/system")
    assert httpx.get(address, verify=trusted, trust_env=False).status_code == 401
    answer = httpx.get(address, verify=trusted, trust_env=False, auth=("studio", ARCHIVE_PASSWORD))
    assert answer.json()["Name"] == "Studio"


def test_a_study_of_the_archive_is_opened_asked_about_and_gets_what_was_seen(house, context, tmp_path):
    web, slices = DicomWeb(house.archive), []
    for number in range(3):
        one = pydicom.dcmread(EXAMPLES / "real_ct.dcm")
        one.PatientID, one.AccessionNumber, one.StudyInstanceUID = "P-7", "A-1", "1.2.826.0.7"
        one.SeriesInstanceUID, one.SOPInstanceUID = "1.2.826.0.7.1", f"1.2.826.0.7.1.{number}"
        one.file_meta.MediaStorageSOPInstanceUID, one.ImagePositionPatient[2] = one.SOPInstanceUID, 5 * number
        slices.append(one)
    web.store(slices)
    (study,) = web.studies(patient="P-7", accession="A-1")
    (series,) = web.series(study.uid)
    assert (study.uid, series.uid, series.instances) == ("1.2.826.0.7", "1.2.826.0.7.1", "3")
    assert web.studies(patient="P-8") == []
    fetched = [pydicom.dcmread(path) for path in web.fetch(study.uid, series.uid, tmp_path)]
    assert {one.SOPInstanceUID for one in fetched} == {one.SOPInstanceUID for one in slices}
    assert all((one.pixel_array == slices[0].pixel_array).all() for one in fetched)

    page = context.new_page()
    sign_in(page, house, "ann")
    page.wait_for_selector("#ask:not([disabled])")
    page.get_by_text("From the archive 127.0.0.1").click()
    page.fill("#archive-patient textarea, #archive-patient input", "P-7")
    page.click("#archive-find")
    page.get_by_text("1 series in the study").wait_for()
    picture(page, "archive")
    page.click("#archive-open")
    page.get_by_text("3 × ").or_(page.get_by_text("2 of 3")).first.wait_for()
    page.fill("#question textarea, #question input", "Is there a mass?")
    page.click("#ask")
    page.wait_for_selector(".answer-panel:not([hidden])")
    page.get_by_role("tab", name="Export").click()
    page.locator("[data-control=identity]").check()
    page.locator("[data-control=store]").check()
    page.locator("[data-objects=regions]").click()
    page.get_by_text("1 object stored in 127.0.0.1").wait_for()
    picture(page, "archive-stored")
    kinds = {one.modality: one for one in web.series(study.uid)}
    assert set(kinds) == {"CT", "SEG"}
    (path,) = web.fetch(study.uid, kinds["SEG"].uid, tmp_path)
    made = pydicom.dcmread(path)
    assert (made.PatientID, made.SourceImageSequence[0].ReferencedSOPInstanceUID) == ("P-7", "1.2.826.0.7.1.1")
    acts = [line["act"] for line in noted(house)]
    assert acts[-5:] == ["sign-in", "archive-search", "archive-fetch", "image-open", "archive-store"]
    assert "P-7" not in house.audit.read_text() + house.log.read_text()
