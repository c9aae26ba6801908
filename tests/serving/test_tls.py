"""A server with a certificate."""

import pytest
from certificates import write_certificate
from toy_server import make_checkpoint, observation, running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, SessionRefused
from positronic.client.tls import trusting
from positronic.errors import PositronicError
from positronic.serving.tls import check_tls
from positronic.utils.serialization import MAX_FRAME_BYTES


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server's port, and the file of its certificate, which is for localhost."""
    folder = tmp_path_factory.mktemp("secure")
    make_checkpoint(folder / "run", 30)
    certificate, key = write_certificate(folder)
    with running(folder / "run", tls_cert=certificate, tls_key=key) as (port, _):
        yield port, certificate


def test_a_client_that_trusts_the_certificate_is_served(secure):
    """The list of models and a session, both encrypted."""
    port, certificate = secure
    client = InferenceClient("localhost", port, tls=True, tls_ca=certificate)
    assert client.models() == ["000030"]
    with client.session() as session:
        assert session.infer(observation())


@pytest.mark.parametrize("ask", [InferenceClient.models, InferenceClient.session])
def test_a_client_that_does_not_trust_it_says_why_and_what_to_type(secure, ask):
    """At once: a certificate of nobody's, or for another name."""
    port, certificate = secure
    for host, trusted in (("localhost", None), ("127.0.0.1", certificate)):
        with pytest.raises(SessionRefused, match=r"its certificate is not trusted here: .*policy\.tls_ca"):
            ask(InferenceClient(host, port, tls=True, tls_ca=trusted))


@pytest.mark.parametrize("ask", [InferenceClient.models, InferenceClient.session])
def test_a_client_without_tls_is_told_that_it_may_need_it(secure, ask):
    """Such a server looks like one that has not started yet."""
    with pytest.raises(ConnectionLost, match=r"policy\.tls=true"):
        ask(InferenceClient("localhost", secure[0], connect_timeout_sec=0.2))


def test_a_frame_that_is_too_large_ends_the_session_with_its_reason(secure):
    """An encrypted connection cannot be closed on one side alone."""
    port, certificate = secure
    address, context = f"wss://localhost:{port}{keys.ROUTE_SESSION}", trusting(True, certificate)
    with connect(address, ssl=context, compression=None, close_timeout=1) as websocket:
        while b"ready" not in websocket.recv(timeout=60):
            pass
        websocket.send(bytes(MAX_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=60)
    assert closed.value.rcvd.code == 1009


def test_files_that_are_no_certificate_with_its_key_are_refused_before_anything_starts(tmp_path):
    """Missing, of another pair, or no PEM."""
    certificate, key = write_certificate(tmp_path)
    other = write_certificate(tmp_path, "other")[1]
    (tmp_path / "text").write_text("hello")
    assert check_tls(None, None) is None
    for files, says in (
        ((certificate, None), r"server\.tls_cert counts only with server\.tls_key"),
        ((None, key), r"server\.tls_key counts only with server\.tls_cert"),
        ((certificate, str(tmp_path / "none")), r"server\.tls_key=.*none: expected a file"),
        ((certificate, other), "KEY_VALUES_MISMATCH"),
        ((str(tmp_path / "text"), key), "not PEM"),
    ):
        with pytest.raises(PositronicError, match=says):
            check_tls(*files)


def test_a_client_refuses_what_is_no_certificate(tmp_path):
    """Before it connects."""
    (tmp_path / "text").write_text("hello")
    for file, says in ((tmp_path / "none", "No such file"), (tmp_path / "text", "something else")):
        with pytest.raises(PositronicError, match=rf"policy\.tls_ca=.*{says}"):
            InferenceClient("localhost", 8000, tls=True, tls_ca=str(file))
    with pytest.raises(PositronicError, match=r"only with policy\.tls=true"):
        InferenceClient("localhost", 8000, tls_ca="x")
