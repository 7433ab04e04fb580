"""Volume mounts as they are written: their form, and what no list can allow."""

import pytest
from pydantic import ValidationError

from uhlp_state.model.mounts import Mount
from uhlp_state.model.pools import PoolDefinition


def test_the_form():
    assert Mount.parse("/srv/data:/data") == Mount("/srv/data", "/data", writable=False)
    assert Mount.parse("/srv/data:/data:ro") == Mount("/srv/data", "/data", writable=False)
    assert Mount.parse("/srv/data:/data:rw") == Mount("/srv/data", "/data", writable=True)
    pool = PoolDefinition.model_validate({"poolName": "p", "volumeMounts": ["/a:/b"]})
    assert pool.mounts == (Mount("/a", "/b", writable=False),)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/data", "/data:", ":/data", "data:/data", "/data:data", "/a:/b:rw,z", "/a:/b:ro:rw"),
        *("/a/../etc:/x", "/a/./b:/x", "/a//b:/x", "/a/:/x", "/a:/b/..", "/a\0:/b", "/a\n:/b", "//a:/b"),
        *("/:/x", "/proc:/x", "/proc/1/root:/x", "/sys:/x", "/dev/sda:/x", "/etc:/x", "/etc/shadow:/x"),
        *("/run:/x", "/run/docker.sock:/x", "/var/run/docker.sock:/x", "/var/run:/x", "/var:/x"),
        *("/var/lib:/x", "/var/lib/docker:/x", "/root:/x"),
        *(
            "/a:/",
            "/a:/proc",
            "/a:/tmp",
            "/a:/usr/lib/python3",
            "/a:/uhlp/trees",
            "/a:/opt",
            "/a:/etc/passwd",
        ),
    ],
)
def test_what_no_list_can_allow(text):
    with pytest.raises(ValueError):
        Mount.parse(text)
    with pytest.raises(ValidationError):
        PoolDefinition.model_validate({"poolName": "p", "volumeMounts": [text]})


@pytest.mark.parametrize(
    ("allowed", "asked", "verdict"),
    [
        ("/a:/b", "/a:/b:ro", True),
        ("/a:/b:rw", "/a:/b", True),
        ("/a:/b:rw", "/a:/b:rw", True),
        ("/a:/b", "/a:/b:rw", False),
        ("/a:/b", "/a/c:/b", False),
        ("/a:/b", "/a:/b/c", False),
    ],
)
def test_what_one_on_the_list_allows(allowed, asked, verdict):
    assert Mount.parse(allowed).allows(Mount.parse(asked)) is verdict
