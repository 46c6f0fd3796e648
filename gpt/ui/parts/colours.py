"""The page's colours where Python draws; assets/style.css has the others."""

HUE = "#3b7dd8"  # probability, one hue in every tab
AGAINST, FOR = "#b2182b", "#2166ac"  # negative and positive, against a token and for it
# Seven that stay apart for colour-blind readers. Source: Okabe and Ito 2008.
PARTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
