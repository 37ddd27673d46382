"""The U-Net, the noise schedule, random streams and devices, shared by training and sampling."""
