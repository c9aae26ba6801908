"""What positronic/serving/litserve_host.py takes for granted of LitServe; a new version must pass this first."""

import inspect
import pickle
from multiprocessing.managers import SyncManager
from types import SimpleNamespace

import litserve
import pytest
import toy_vendor
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec

from positronic import keys
from positronic.serving.litserve_host import UNUSED_PATH, make_server
from positronic.serving.settings import ServerSettings

NAMED = "/{checkpoint_id:path}"


def server(tmp_path, token=None):
    settings = ServerSettings(tmp_path, device="cpu", loader=toy_vendor.load_model)
    return make_server(settings, "000030", "ipc:///nowhere", token)


def test_the_version_is_the_pinned_one():
    """Its private names may change with any release."""
    assert litserve.__version__ == "0.2.19"


def test_a_loop_is_run_with_the_api_first():
    """LitLoop.run(lit_api, device, worker_id, ...), called for ever, not awaited when it is no coroutine."""
    assert list(inspect.signature(LitLoop.run).parameters)[:4] == ["self", "lit_api", "device", "worker_id"]
    assert "while True" in inspect.getsource(LitLoop.__call__)


def test_a_spec_without_endpoints_keeps_predict_away(tmp_path):
    """The only routes are LitServe's own pages and ours."""
    assert LitSpec().endpoints == []
    paths = {route.path for route in server(tmp_path).app.routes}
    sessions = {f"{route}{named}" for route in (keys.ROUTE_SESSION, keys.ROUTE_OPENPI) for named in ("", NAMED)}
    ours = {keys.ROUTE_MODELS, keys.ROUTE_HEALTH, keys.ROUTE_READY, keys.ROUTE_METRICS, *sessions}
    assert ours <= paths
    assert paths - ours <= {"/", "/health", "/info", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
    assert {"/predict", UNUSED_PATH}.isdisjoint(paths)


def test_what_travels_to_the_worker_can_travel(tmp_path):
    """LitServe pickles the API with its loop and spec when it spawns the worker."""
    api = pickle.loads(pickle.dumps(server(tmp_path).lit_api))
    assert api.checkpoint_id == "000030"
    assert api.settings.load_model() is toy_vendor.load_model
    assert type(api.loop).__name__ == "_WorkerLoop"


def test_run_takes_what_we_pass():
    """These are run()'s own; the rest goes to uvicorn."""
    parameters = inspect.signature(litserve.LitServer.run).parameters
    assert {"host", "port", "num_api_servers", "generate_client_file", "log_level", "kwargs"} <= set(parameters)


def test_the_token_guards_before_litserves_own_routes(tmp_path):
    """The guard is part of the app that LitServe copies for its API process."""
    outermost = server(tmp_path, "s3cret").app.user_middleware[0]
    assert outermost.cls.__name__ == "TokenGuard"


def test_a_worker_that_is_killed_while_it_starts_is_no_endless_wait(tmp_path):
    """LitServe's own check would wait for it for ever."""
    ours = server(tmp_path)
    ours.workers_setup_status, ours.inference_workers = {}, [SimpleNamespace(is_alive=lambda: False)]
    with pytest.raises(RuntimeError, match="did not start"):
        ours.verify_worker_status()


def test_litserve_calls_what_we_override():
    """With these arguments; its run ends when the event is set."""
    source = inspect.getsource(litserve.LitServer.run)
    for call in (
        "self.verify_worker_status()",
        "manager = self._init_manager(num_api_servers)",
        "port, num_api_servers, log_level, sockets, api_server_worker_type, **kwargs",
        "self._start_worker_monitoring(manager, uvicorn_workers)",
        "self._shutdown_event.wait()",
        "self._perform_graceful_shutdown(manager, uvicorn_workers, shutdown_reason)",
        'shutdown_reason = "keyboard_interrupt"',
    ):
        assert call in source


def test_a_worker_can_be_started_again(tmp_path):
    """By its number, as LitServe's own monitoring does it."""
    assert list(inspect.signature(litserve.LitServer.launch_single_inference_worker).parameters)[1:] == [
        "lit_api",
        "worker_id",
    ]
    assert "self.inference_workers[idx] = self.launch_single_inference_worker(lit_api, worker_id)" in inspect.getsource(
        litserve.LitServer._start_worker_monitoring
    )


def test_the_api_process_begins_and_ends_with_our_lifespan(tmp_path):
    """There it stops to listen to Ctrl-C and opens the link; sessions have the time that uvicorn is told."""
    ours = server(tmp_path)
    assert ours.app.router.lifespan_context == ours.lifespan
    assert "timeout_graceful_shutdown=self.uvicorn_graceful_timeout" in inspect.getsource(
        litserve.LitServer._start_server
    )
    assert ours.uvicorn_graceful_timeout > ours.lit_api.settings.drain_sec


def test_the_manager_of_the_queues_has_a_process():
    """Which is watched like the others."""
    assert "_process" in inspect.getsource(SyncManager.start)


def test_a_loader_may_be_named():
    """As `module:function`, which its process imports."""
    assert ServerSettings("x", loader="toy_vendor:load_model").load_model() is toy_vendor.load_model
