"""Writes all goldens."""
import make_distill
import make_text
import make_unet
import make_vae

if __name__ == "__main__":
    for module in (make_unet, make_vae, make_text, make_distill):
        module.main()
