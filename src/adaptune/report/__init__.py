"""The page that shows a run or a comparison: figures and one HTML file."""
