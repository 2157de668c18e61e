"""Writes all goldens."""
import make_distill
import make_distill_flow
import make_gguf
import make_image
import make_lora
import make_lr_schedule
import make_mmdit
import make_optimizer
import make_original
import make_original_sd3
import make_samplers
import make_schedule
import make_sd3
import make_sdxl
import make_t5
import make_text
import make_torch_files
import make_unet
import make_vae

if __name__ == "__main__":
    for module in (make_unet, make_mmdit, make_vae, make_text, make_sdxl, make_sd3, make_schedule, make_samplers,
                   make_distill, make_distill_flow, make_gguf, make_image, make_torch_files, make_original,
                   make_original_sd3, make_optimizer, make_lr_schedule, make_lora, make_t5):
        module.main()
