"""Networks of one's own, named in another way than "module:function": the message has the form, with the person's own words."""

import pytest

from torchbcos.zoo.meant import own_network


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "nets").mkdir()
    for path in (tmp_path / "mynet0.py", tmp_path / "nets" / "deep.py"):
        path.write_text("raise SystemExit('this is run')\nclass MyCNN(Base):\n    def forward(self, x): ...\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["MyCNN", "mynet0.py", "mynet0.MyCNN", "./mynet0.py:MyCNN", "mynet0.py:MyCNN"])
def test_the_words_of_a_file_that_lies_there(here, name):
    assert own_network(name) == "a network of your own is FILE:FUNCTION, here 'mynet0:MyCNN'"


@pytest.mark.parametrize("name", ["nets/deep.py", "nets.deep.MyCNN", "nets/deep.py:MyCNN"])
def test_a_file_in_a_folder(here, name):
    assert own_network(name) == "a network of your own is FILE:FUNCTION, here 'nets.deep:MyCNN'"


@pytest.mark.parametrize("name", ["other.py", "../mynet0.py:MyCNN", "mynet0:", ":MyCNN", "a.b.C", "x\0.py", "y" * 5000 + ".py"])
def test_the_form_where_nothing_lies_there(here, name):
    found = own_network(name)
    assert found is not None and "'mynets:MyCNN' for a class MyCNN in the file mynets.py" in found and len(found) < 200


@pytest.mark.parametrize("name", ["resnet51", "MyOtherCNN", "forward", ""])
def test_what_looks_like_a_name_of_ours(here, name):
    assert own_network(name) is None


def test_what_cannot_be_read(here):
    (here / "big.py").write_bytes(b"class Big:\n" + b"#" * 1_000_001)
    (here / "folder.py").mkdir()
    (here / "bytes.py").write_bytes(b"\xff\xfeclass Odd:\nclass Odder:\n")
    assert own_network("Big") is None and own_network("Odd") is None
    assert own_network("Odder") == "a network of your own is FILE:FUNCTION, here 'bytes:Odder'"
