"""Lists a year of a ptt.cc board and finds every image that its articles link."""
