"""Steering vectors in repositories of a model hub, through `huggingface_hub` alone.

1. A repository holds exactly the five files of `contents.FILES`; what lies beside them is not fetched and not read.
2. Everything here works on bytes and files and knows no `SteeringVector`; `steering.vector.exchange` makes the files from a vector, and
   a vector from the files.
3. A copy is of one commit, whole, and equal to what its `config.json` says, or it is refused. Nothing pickled is opened.
"""
