"""Ways to decode: what an arm does with a model beside writing one text per question.

1. A decoder writes candidates, scores them, and chooses one; all candidates are stored with the row, and all tokens are counted.
2. Arms whose candidates are made in the same way share them: what is compared is the choice alone.
3. Candidates are rows of the engine (`steering.engine`), under the arm's plan, with noise of their own.
"""
