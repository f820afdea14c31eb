"""The core: models, sites, vectors, plans and steered generation. Imports none of the other rooms."""
