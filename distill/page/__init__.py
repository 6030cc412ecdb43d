"""The rooms of `distill.gallery`: a store as one HTML page.

sight         what of the store's pictures can be shown here, and what must be said about it
scan          reads blocks: histograms, and the rows that stand out (ranking, dispute)
coverage      which blocks are there, as a map
classes       names of classes, and which class a label stands for
exhibits      rows for the page: original, replayed views, parameters in words, kept classes (pictures)
curves        what runs wrote down while they trained
charts        histograms and curves as shapes
facts         what the store is, in figures and words
document      all of it into `web/`: template, style and script, one file
"""
