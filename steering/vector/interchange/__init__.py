"""Steering vectors from and to other programs' files.

1. Every importer returns `SteeringVector`s (or a set that makes them) whose provenance names the file, its hash and its convention.
2. No importer runs code from a file; a file that is corrupt, cut short or of another kind gives one `BadInput`.
3. What a file does not say is not guessed: the layer convention and the site are required keywords, an unnamed model stays `unknown`.
"""

from .conventions import CONVENTIONS, LayerConvention
from .easysteer import export_easysteer, import_easysteer
from .gguf import export_gguf, import_gguf
from .neuronpedia import export_neuronpedia, import_neuronpedia
from .peers import import_steering_vectors
from .pickles import load_plain
from .published import BehaviourMean, BehaviourMeans, import_behaviour_means, import_directions
from .saklas import export_saklas, import_saklas
from .tensors import export_tensor, import_tensor

__all__ = [
    "CONVENTIONS",
    "BehaviourMean",
    "BehaviourMeans",
    "LayerConvention",
    "export_easysteer",
    "export_gguf",
    "export_neuronpedia",
    "export_saklas",
    "export_tensor",
    "import_behaviour_means",
    "import_directions",
    "import_easysteer",
    "import_gguf",
    "import_neuronpedia",
    "import_saklas",
    "import_steering_vectors",
    "import_tensor",
    "load_plain",
]
