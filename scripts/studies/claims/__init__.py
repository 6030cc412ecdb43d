"""The paper's claims at small scale, for `scripts/studies/reproduce_small.py`.

settings    values: data, teacher passes, stores, trainings; each has a fingerprint
questions   which trainings answer which question
pictures    data sets, packed
stores      teacher passes that keep every class, and stores with less made from them
scoring     students against the labels and against the teacher, on the test pictures
training    one cell: a student, from labels, from a store, or with the teacher beside it (`online`)
costs       time and memory of a step with and without the teacher beside it
jobs        work in processes side by side, each result kept in a file
tables, plots   what came out
"""
