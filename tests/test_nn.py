import subprocess
import sys


def test_the_old_name_is_the_new_module():
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from shortlist.nn import MoE, adopt\n"
        "from shortlist.nn.gates import GATES\n"
        "import shortlist.nn, shortlist.torch, shortlist.torch.gates\n"
        "assert shortlist.nn is shortlist.torch and MoE is shortlist.torch.MoE\n"
        "assert GATES is shortlist.torch.gates.GATES\n"
        "print('same')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "same\n", ran.stderr


def test_the_old_name_says_where_things_are_now():
    ran = subprocess.run([sys.executable, "-c", "import shortlist.nn"], capture_output=True, text=True)
    assert "shortlist.nn is now shortlist.torch" in ran.stderr
