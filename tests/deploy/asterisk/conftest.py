"""The pool and the Asterisk that the tests here share. What is missing for them is a failure: they were asked for."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.messages import CommandName
from tests.acceptance.pool import until
from tests.deploy.asterisk.pbx import Pbx, running_pbx
from tests.deploy.asterisk.site import PATIENCE_S, WORKERS, Site, running_site
from tests.deploy.asterisk.tree import DEFAULT_SUITE, TreeUnavailable, asterisk_tree

CONTACTS = ("voicepool-1", "voicepool-2")


@pytest.fixture(scope="session")
def tree() -> Path:
    """A Debian suite with Asterisk: ASTERISK_SUITE, or DEFAULT_SUITE."""
    assert os.geteuid() == 0, "network namespaces and chroot need root"
    for program, package in {"ip": "iproute2", "nsenter": "util-linux", "sipp": "sip-tester"}.items():
        assert shutil.which(program), f"{program} is not installed (Debian: {package})"
    try:
        return asterisk_tree(os.environ.get("ASTERISK_SUITE") or DEFAULT_SUITE)
    except TreeUnavailable as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def shared_site(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two dispatchers and two workers."""
    with running_site(tmp_path_factory.mktemp("pool")) as site:
        yield site


@pytest.fixture(scope="session")
def shared_pbx(tree: Path, shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbx]:
    """Asterisk, set up as the guide says."""
    [host, _] = shared_site.pbx_hosts
    with running_pbx(host, tree, tmp_path_factory.mktemp("asterisk"), shared_site.files(host)) as pbx:
        yield pbx


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The site; a test that leaves a lease behind fails, and what it killed or drained comes back."""
    yield shared_site
    shared_site.revive()
    shared_site.pool.operate(CommandName.UNDRAIN, everything=True)
    shared_site.pool.wait_until_seen(WORKERS)
    shared_site.pool.wait_until_idle()


@pytest.fixture
def pbx(shared_pbx: Pbx, site: Site) -> Pbx:
    """Asterisk, which reaches both dispatchers."""
    until(lambda: all(shared_pbx.reaches(each) for each in CONTACTS), PATIENCE_S, shared_pbx.tail)
    return shared_pbx
