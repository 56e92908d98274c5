"""Attribution fields: which input pixels the network's answer at one pixel rests on, and how large that field is."""
