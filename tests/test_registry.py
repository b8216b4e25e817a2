import subprocess
import sys

import pytest

from shortlist.estimators import ESTIMATORS
from shortlist.registry import Registry
from shortlist.selectors import SELECTORS


@pytest.mark.parametrize("registry", [ESTIMATORS, SELECTORS])
def test_each_class_carries_the_name_that_it_is_found_by(registry):
    assert {name: kind.name for name, kind in registry.items()} == {name: name for name in registry}
    assert len(set(registry.values())) == len(registry)


def test_listing_names_imports_nothing():
    code = (
        "import sys; from shortlist.estimators import ESTIMATORS; list(ESTIMATORS), 'sketch' in ESTIMATORS;"
        "assert 'shortlist.estimators.sketch' not in sys.modules; ESTIMATORS['sketch'];"
        "assert 'shortlist.estimators.sketch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_is_imported_by_its_own_name():
    from shortlist.selectors import TopK

    assert SELECTORS["top_k"] is TopK
    with pytest.raises(ImportError, match="NoSuchMethod"):
        from shortlist.selectors import NoSuchMethod  # noqa: F401


def test_unknown_names_are_not_there():
    registry = Registry("shortlist.sites", {"head": "head:Head"})
    assert "neck" not in registry
    assert len(registry) == 1
    assert list(registry) == ["head"]
    with pytest.raises(KeyError):
        registry["neck"]
    with pytest.raises(AttributeError, match="no attribute 'Neck'"):
        registry.by_class("Neck")
