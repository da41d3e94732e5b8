"""What setup.cfg cannot say: the long description, for package indexes. All else stands in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

readme = (Path(__file__).parent / "README.rst").read_text(encoding="utf-8")
# Pictures and links of these parts are files of the repository, which an index does not have.
PART = r"^\.\. repository only: begin$.*?^\.\. repository only: end$\n*"
on_an_index = re.sub(PART, "", readme, flags=re.MULTILINE | re.DOTALL)

setup(long_description=on_an_index)
