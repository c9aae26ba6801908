import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # toy_server, toy_vendor

OPENPI_CLIENT = ["openpi-client==0.1.2", "typing_extensions"]  # the latter it imports and does not name
INSTALL_SEC = 240


@pytest.fixture(scope="session")
def openpi_python(tmp_path_factory):
    """An interpreter with the published client of openpi, which takes an older numpy than ours. Skips where packages
    cannot be fetched."""
    venv = tmp_path_factory.mktemp("openpi_client") / "venv"
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".bootstrap" / "bin"))
    if uv is None:
        pytest.skip("the published client of openpi is installed by uv, which `make setup` fetches")
    python = venv / "bin" / "python"
    commands = [[uv, "venv", "--python", sys.executable, str(venv)]]
    commands += [[uv, "pip", "install", "--python", str(python), *OPENPI_CLIENT]]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SEC, check=False)
        if done.returncode:
            pytest.skip(f"the published client of openpi cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return python
