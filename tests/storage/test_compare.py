"""stage=compare in a bucket: the page lies where a local one does, and is replaced when seeds are added."""

import json

import pytest
from rollout_reports import rollouts

import positronic
from positronic.errors import PositronicError
from positronic.rollout.report import write_json
from positronic.stages import compare
from positronic.stages.compare import NUMBERS_FILE, PAGE_FILE, PLOT_FILE


@pytest.fixture
def compared(bucket):
    """``compared(url=None)``: the page beside the folders of the policies, as ``policies=[first,second]`` writes it."""
    folders = ",".join(bucket.uri(f"contest/{name}") for name in ("first", "second"))

    def write(url=None):
        typed = [f"rollouts=[{folders}]", f"output_dir={bucket.uri('contest')}"]
        typed += [f"storage.endpoint_url={url or bucket.url}", f"storage.cache_dir={bucket.cache}", "storage.retries=0"]
        return compare.run(positronic.compose(["stage=compare", *typed]))

    return write


def evaluate(bucket, folder, *outcomes):
    for name in ("first", "second"):
        write_json(rollouts(folder, *outcomes), folder / "report.json")
        bucket.put_key(f"contest/{name}/report.json", (folder / "report.json").read_bytes())


def test_the_page_lies_beside_the_policies_and_is_replaced(bucket, compared, tmp_path):
    """With more seeds it says more, the evaluations stay, and nothing is left here."""
    for seeds in (1, 2):
        evaluate(bucket, tmp_path, *["success"] * seeds)
        assert compared().path == bucket.uri("contest")
        assert len(json.loads(bucket.objects()[f"contest/{NUMBERS_FILE}"])["seeds"]) == seeds
    reports = {f"contest/{name}/report.json" for name in ("first", "second")}
    assert set(bucket.objects()) == reports | {f"contest/{name}" for name in (NUMBERS_FILE, PAGE_FILE, PLOT_FILE)}
    assert not list((bucket.cache / "outgoing").glob("*/*"))


def test_a_page_that_could_not_be_uploaded_is_written_by_the_same_command(bucket, compared, proxy, tmp_path):
    """The page is uploaded after what it is made of."""
    evaluate(bucket, tmp_path, "success")
    proxy.inject("busy", method="PUT", path=f"contest/{PLOT_FILE}", times=99)
    with pytest.raises(PositronicError):
        compared(proxy.url)
    assert f"contest/{PAGE_FILE}" not in bucket.objects()
    proxy.faults.clear()
    compared(proxy.url)
    assert f"contest/{PAGE_FILE}" in bucket.objects()
