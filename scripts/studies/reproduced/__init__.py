"""The paper's results reproduced at small scale, for `scripts/studies/reproduce_small.py`.

settings    values: data, teacher passes, stores, trainings; each has a fingerprint
questions   which trainings answer which question
images      data sets, packed
stores      teacher passes that store every class, and smaller stores made from them
scoring     students against the labels and against the teacher, on the test images
training    one cell: a student, trained on labels, from a store, or with the teacher online (`online`)
costs       time and memory of a step with stored logits and with the teacher online
jobs        work in parallel processes, each result in a file
plan        from questions to jobs
report      the results file; with `tables` and `plots`
"""
