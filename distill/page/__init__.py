"""The gallery page: a store as one HTML file. `distill.gallery` calls these modules in this order.

curves        the training runs to be shown: their metrics, thinned
replayed      whether images and views can be shown, and the notices about it
classes       names of classes, and which class a label stands for
scan          reads blocks: histograms, and the rows that stand out (with ranking and disagreement)
row_choice    which rows the page shows, and why
rows          the examples: original image, replayed views with their parameters, predictions (with images, predictions)
coverage      which blocks are written, as a map
facts         the store in figures and in words
charts        histograms and curves as SVG
document      all of it into the template, style and script of `web/`: one file
"""
