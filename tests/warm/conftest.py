"""Sites of warm CGI that leave no server behind."""

import pytest

from warm_harness import Site


@pytest.fixture
def make_site(tmp_path):
    """Make sites, each in a folder of its own or in the one that is given."""
    sites = []

    def make(application, options="", before="", *, folder=None, warm=True):
        made = folder or tmp_path / f"site{len(sites)}"
        made.mkdir(exist_ok=True)
        sites.append(Site(made, application, options, before, warm=warm))
        return sites[-1]

    yield make
    for site in sites:
        site.end()
