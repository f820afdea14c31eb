"""Elicitation cards: what draws reasoning out of a model that is not trained further, each with its controls, all on one table.

1. A card is a module: what it asks of a pair and a task, which arms and controls it runs, and what it says of them.
2. Every text is a row of an ordinary run; a card's findings name their runs and hold no number that cannot be computed from them again.
3. Findings lie under `<runs>/.elicitation`, named by models, questions and options; nothing stale can be.
"""
