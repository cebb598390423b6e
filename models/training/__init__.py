"""From a healthy or labelled record to a bundle. Needs the train extra."""
