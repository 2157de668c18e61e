/* What is said of files and folders that are no model, and folders of a Hugging Face cache. */
#include "tiny_model.h"
#include "base/text.h"
#include "pipeline/pipeline.h"
#include "convert_support.h"
#include "checkpoints/lora.h"
#include "checkpoints/model_path.h"
#include "checkpoints/recognise.h"

/* ---- bytes ---- */

typedef struct {
    const char *bytes;
    size_t count;
    const char *text;
} magic_case;

#define BYTES(text) text, sizeof(text) - 1
static const magic_case magics[] = {
    {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4265146304\n"), "a Git LFS pointer"},
    {BYTES("<!DOCTYPE html>\n<html><head><title>Sign in</title>"), "an HTML page"},
    {BYTES("  \n<HTML>"), "an HTML page"},
    {BYTES("prompt: a lighthouse\n"), "a text"},
    {BYTES("text"), "a text"},
    {BYTES("{\"error\": \"not found\"}"), "a JSON text"},
    {BYTES(""), "an empty file"},
    {BYTES("\0\0\0\0\0\0\0\0\0\0\0\0"), "begins with zeros"},
    {BYTES("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "a PNG picture"},
    {BYTES("\xff\xd8\xff\xe0\0\x10JFIF"), "a JPEG picture"},
    {BYTES("RIFF\x24\0\0\0WEBPVP8 "), "a WebP picture"},
    {BYTES("\x1f\x8b\x08\0\0\0\0\0\0\3"), "a gzip archive"},
};

static void bytes_are_known(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "model.safetensors"));
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        char text[256];
        sp_pipeline *p;
        sp_component *vae;
        sp_lora *lora;
        assert_ok(sp_write_file(path, magics[i].bytes, magics[i].count));
        assert_status(sp_pipeline_open(path, &(sp_model_options){0}, &p), SP_FORMAT);
        assert_message("model.safetensors: is ");
        assert_message(magics[i].text);
        assert_message("neither a safetensors file nor GGUF nor what torch.save writes");
        assert_status(sp_component_open(path, "vae", &vae), SP_FORMAT);
        assert_message(magics[i].text);
        assert_status(sp_lora_open(path, &lora), SP_FORMAT);
        assert_message(magics[i].text);
        sp_recognise(path, text, sizeof text);
        if (!strstr(text, magics[i].text)) fail_msg("\"%s\" is not \"%s\"", text, magics[i].text);
    }
    /* an archive that is none of PyTorch's */
    static const char zip[] = "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    sp_pipeline *p;
    assert_ok(sp_write_file(path, zip, sizeof zip));
    assert_status(sp_pipeline_open(path, &(sp_model_options){0}, &p), SP_FORMAT);
    assert_message("an empty zip archive");
}

/* ---- names of tensors ---- */

typedef struct {
    const char *names[4];
    sp_shape shape; /* of the first; the others are [1] */
    const char *text;
} names_case;

#define UNET "model.diffusion_model."
static const char sd3_vae[] = "first_stage_model.encoder.conv_in.weight";
static const names_case tensors[] = {
    {{UNET "label_emb.0.0.weight", UNET "input_blocks.0.0.weight"}, {.rank = 2, .dim = {1, 2560}},
     "Stable Diffusion XL's refiner"},
    {{"edm_mean", UNET "label_emb.0.0.weight"}, {0},
     "a Playground 2.5 checkpoint, whose noise is of another kind (EDM)"},
    {{UNET "input_blocks.1.1.time_mixer.mix_factor", UNET "label_emb.0.0.weight"}, {0},
     "a Stable Video Diffusion model"},
    {{"encoder.conv_in.weight", "encoder.down.0.block.0.norm1.weight"}, {0}, "an autoencoder (VAE)"},
    {{"encoder.conv_in.weight", "encoder.down_blocks.0.resnets.0.norm1.weight"}, {0}, "an autoencoder (VAE)"},
    {{"first_stage_model.encoder.conv_in.weight"}, {0}, "an autoencoder (VAE)"},
    {{"1.weight", "3.conv.0.weight"}, {0}, "one half of a tiny autoencoder (TAESD)"},
    {{"taesd_decoder.1.weight"}, {0}, "one half of a tiny autoencoder (TAESD)"},
    {{"decoder.conv_in.weight"}, {0}, "the decoder of an autoencoder alone"},
    {{"lora_unet_conv_in.lora_down.weight"}, {0}, "a LoRA"},
    {{"transformer.double_blocks.0.x.lora_A.weight"}, {0}, "a LoRA"},
    {{"unet.up_blocks.0.attn1.processor.to_q_lora.down.weight"}, {0}, "a LoRA"},
    {{"lora_unet_conv_in.hada_w1_a"}, {0}, "a LoRA (LoHa)"},
    {{"input_blocks.0.0.weight", "out.2.weight"}, {.rank = 4, .dim = {1, 9, 1, 1}}, "for inpainting"},
    {{UNET "joint_blocks.0.context_block.attn.qkv.weight", sd3_vae}, {0},
     "a part of a Stable Diffusion 3 model"},
    {{"double_blocks.0.img_attn.qkv.weight"}, {0}, "a Flux model"},
    {{UNET "input_blocks.0.0.weight"}, {.rank = 4, .dim = {1, 9, 1, 1}}, "for inpainting (its UNet takes 9 channels)"},
    {{UNET "input_blocks.0.0.weight"}, {.rank = 4, .dim = {1, 8, 1, 1}}, "an InstructPix2Pix checkpoint"},
    {{UNET "input_blocks.0.0.weight"}, {.rank = 4, .dim = {1, 5, 1, 1}}, "for depth to image"},
    {{"control_model.input_blocks.0.0.weight", UNET "input_blocks.0.0.weight"}, {0}, "a ControlNet"},
    {{"controlnet_cond_embedding.conv_in.weight", "conv_in.weight", "time_embedding.linear_1.weight"}, {0},
     "a ControlNet"},
    {{"emb_params"}, {.rank = 2, .dim = {2, 768}}, "an embedding (textual inversion)"},
    {{"<cat-toy>"}, {.rank = 1, .dim = {768}}, "an embedding (textual inversion)"},
    {{"image_proj.latents"}, {0}, "an IP-Adapter"},
    {{"text_model.embeddings.token_embedding.weight"}, {0}, "a CLIP text encoder alone"},
    {{"encoder.block.0.layer.0.SelfAttention.q.weight"}, {0}, "a T5 text encoder"},
    {{"model.embed_tokens.weight"}, {0}, "a language model"},
};

static void write_names(const char *path, const names_case *c)
{
    static float values[2560];
    sp_named_tensor named[4];
    sp_tensor list[4];
    size_t count = 0;
    for (; count < 4 && c->names[count]; count++) {
        list[count] = (sp_tensor){.dtype = SP_F32, .shape = sp_shape_of(1), .data = values};
        if (!count && c->shape.rank) list[count].shape = c->shape;
        named[count] = (sp_named_tensor){c->names[count], &list[count]};
    }
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
}

static void names_are_known(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "x.safetensors"));
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char text[256];
        sp_pipeline *p;
        write_names(path, &tensors[i]);
        sp_recognise(path, text, sizeof text);
        if (!strstr(text, tensors[i].text))
            fail_msg("%s: \"%s\" is not \"%s\"", tensors[i].names[0], text, tensors[i].text);
        assert_status(sp_pipeline_open(path, &(sp_model_options){0}, &p), SP_UNSUPPORTED);
        assert_message(tensors[i].text);
        assert_message(", expected a Stable Diffusion 1.x, 2.x, XL or 3 model: a folder as diffusers has it, or one "
                       "file");
        sp_component *vae;
        if (strstr(tensors[i].text, "(VAE)") || tensors[i].names[1] == sd3_vae) continue; /* has one */
        assert_status(sp_component_open(path, "vae", &vae), SP_UNSUPPORTED);
        assert_message(tensors[i].text);
        assert_message(", expected a vae");
    }
    const names_case unknown = {{"anything", "else"}, {0}, ""};
    sp_pipeline *p;
    write_names(path, &unknown);
    assert_status(sp_pipeline_open(path, &(sp_model_options){0}, &p), SP_FORMAT);
    assert_message("x.safetensors: has no unet, vae, text_encoder, expected a Stable Diffusion 1.x, 2.x, XL or 3 "
                   "model");
    const names_case part = {{UNET "input_blocks.0.0.weight"}, {.rank = 4, .dim = {1, 4, 1, 1}}, ""};
    write_names(path, &part);
    assert_status(sp_pipeline_open(path, &(sp_model_options){0}, &p), SP_FORMAT);
    assert_message("is a UNet alone, without vae, text_encoder; `splam generate` and `splam convert` take the rest");
    assert_status(convert_model(golden("checkpoints/bare.bin"), in_folder(state, "new"),
                                &(splam_convert_options){.dtype = "f16"}), SP_FORMAT);
    assert_message("bare.bin: has no unet");
}

/* ---- a family with parts missing ---- */

static void what_matches_is_counted(void **state)
{
    static sp_named_tensor named[1024];
    sp_tensor_file *file;
    sp_component *unet;
    size_t count = 0;
    char model[512];
    snprintf(model, sizeof model, "%s", in_folder(state, "unet"));
    assert_ok(sp_make_folders(model));
    assert_ok(sp_copy_file(golden("teacher-epsilon/unet/config.json"), in_folder(state, "unet/config.json"), NULL));
    assert_ok(sp_tensor_file_open_folder(golden("teacher-epsilon/unet"), "diffusion_pytorch_model", NULL, &file));
    size_t all = sp_tensor_file_count(file);
    for (size_t i = 0; i < all; i++)
        if (!strstr(sp_tensor_file_name(file, i), "mid_block.resnets"))
            named[count++] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    assert_ok(sp_safetensors_save(in_folder(state, "unet/diffusion_pytorch_model.safetensors"), named, count, NULL, 0));
    sp_tensor_file_close(file);
    char words[128];
    snprintf(words, sizeof words, "is missing; %zu tensors of %zu matched", count, all);
    assert_status(sp_component_open(model, "unet", &unet), SP_FORMAT);
    assert_message("tensor \"mid_block.resnets.0.");
    assert_message(words);
}

/* ---- folders ---- */

static void folders_are_known(void **state)
{
    static const struct {
        const char *files[3];
        const char *text;
    } folders[] = {
        {{NULL}, "an empty folder"},
        {{"vocab.json", "merges.txt", "tokenizer_config.json"}, "the folder of a tokenizer"},
        {{"scheduler_config.json"}, "the folder of a scheduler"},
        {{"pytorch_lora_weights.safetensors"}, "the folder of a LoRA"},
        {{"1.png", "2.JPG", "3.txt"}, "a folder with 2 pictures"},
        {{"model.ckpt", "README.md"}, "a folder with model.ckpt; a checkpoint of one file is named itself"},
        {{"notes", "other"}, "a folder with notes, other"},
    };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char folder[512], text[256];
        sp_pipeline *p;
        sp_component *unet;
        snprintf(folder, sizeof folder, "%s/%zu", (const char *)*state, i);
        assert_ok(sp_make_folders(folder));
        for (size_t k = 0; k < 3 && folders[i].files[k]; k++) {
            char *path = sp_path_join(folder, folders[i].files[k]);
            write_text(path, "{}");
            sp_free(path);
        }
        sp_recognise(folder, text, sizeof text);
        assert_string_equal(text, folders[i].text);
        assert_status(sp_pipeline_open(folder, &(sp_model_options){0}, &p), SP_UNSUPPORTED);
        assert_message(folders[i].text);
        assert_message("expected a Stable Diffusion 1.x, 2.x, XL or 3 model");
        assert_status(sp_component_open(folder, "unet", &unet), SP_IO);
        assert_message(folders[i].text);
    }
    char text[256];
    sp_recognise(golden("vae-sd"), text, sizeof text);
    assert_string_equal(text, "the folder of one component (AutoencoderKL)");
}

/* ---- a Hugging Face cache ---- */

static void assert_opens(const char *path)
{
    sp_component *unet;
    sp_model_folder folder;
    assert_ok(sp_component_open(path, "unet", &unet));
    sp_component_close(unet);
    assert_ok(sp_model_folder_open(path, &folder));
    assert_true(sp_model_folder_has(&folder, "unet"));
    sp_model_folder_close(&folder);
}

static void link_model(void **state, const char *snapshot)
{
    char target[512], from[512];
    snprintf(from, sizeof from, "%s", in_folder(state, snapshot));
    assert_ok(sp_make_folders(from));
    static const char *const parts[] = {"unet", "scheduler", "model_index.json"};
    for (int i = 0; i < 3; i++) {
        char link[600];
        snprintf(target, sizeof target, "%s/%s", golden("teacher-epsilon"), parts[i]);
        snprintf(link, sizeof link, "%s/%s", from, parts[i]);
        assert_int_equal(symlink(target, link), 0);
    }
}

static void caches_are_followed(void **state)
{
    sp_component *unet;
    char root[512], model[512];
    snprintf(root, sizeof root, "%s", in_folder(state, "hub"));
    snprintf(model, sizeof model, "%s", in_folder(state, "hub/models--org--name"));
    link_model(state, "hub/models--org--name/snapshots/0123abcd");
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--name/refs")));
    write_text(in_folder(state, "hub/models--org--name/refs/main"), "0123abcd\n");
    assert_opens(in_folder(state, "hub/models--org--name/snapshots/0123abcd"));
    assert_opens(model);
    assert_opens(root);
    assert_opens(*state); /* which has the cache as "hub" */
    /* another snapshot: refs/main decides, and without it only one will do */
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--name/snapshots/ffff")));
    assert_opens(model);
    assert_int_equal(unlink(in_folder(state, "hub/models--org--name/refs/main")), 0);
    assert_status(sp_component_open(model, "unet", &unet), SP_ARGUMENT);
    assert_message("holds 2 snapshots (0123abcd, ffff): name one of them");
    static const char *const wrong[] = {"../../../etc", "", "a b", "/etc", ".."};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_text(in_folder(state, "hub/models--org--name/refs/main"), wrong[i]);
        assert_status(sp_component_open(model, "unet", &unet), SP_FORMAT);
        assert_message("refs/main: does not hold the name of a snapshot");
    }
    write_text(in_folder(state, "hub/models--org--name/refs/main"), "beef");
    assert_status(sp_component_open(model, "unet", &unet), SP_IO);
    assert_message("there is no snapshot beef, which refs/main names: is the download complete?");
    /* several models */
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--other/snapshots")));
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--other/refs")));
    assert_status(sp_component_open(root, "unet", &unet), SP_ARGUMENT);
    assert_message("holds 2 models (models--org--name, models--org--other): name one of them");
    assert_status(sp_component_open(in_folder(state, "hub/models--org--other"), "unet", &unet), SP_IO);
    assert_message("has no snapshot: is the download complete?");
    assert_status(sp_component_open("org/name", "unet", &unet), SP_IO);
    assert_message("org/name: no such file or folder");
}

/* --lora and --vae, too. */
static void caches_hold_parts(void **state)
{
    sp_lora *lora;
    sp_component *vae;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "models--org--part"));
    assert_ok(sp_make_folders(in_folder(state, "models--org--part/snapshots/1")));
    assert_ok(sp_make_folders(in_folder(state, "models--org--part/blobs")));
    assert_int_equal(symlink(golden("distill-lora/start.safetensors"),
                             in_folder(state, "models--org--part/snapshots/1/pytorch_lora_weights.safetensors")), 0);
    assert_ok(sp_lora_open(folder, &lora));
    assert_true(sp_lora_count(lora, SP_COMPONENT_UNET) > 100);
    sp_lora_close(lora);
    static const char *const files[] = {"config.json", "diffusion_pytorch_model.safetensors"};
    for (int i = 0; i < 2; i++) {
        char to[600], from[600];
        snprintf(from, sizeof from, "%s/%s", golden("vae-sd"), files[i]);
        snprintf(to, sizeof to, "%s/snapshots/1/%s", folder, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    assert_ok(sp_component_open(folder, "vae", &vae));
    sp_component_close(vae);
}

static sp_status resolve(void *path)
{
    char *out;
    SP_TRY(sp_model_path(path, &out));
    sp_free(out);
    return SP_OK;
}

static void allocations_fail(void **state)
{
    char root[512];
    snprintf(root, sizeof root, "%s", (const char *)*state);
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--name/snapshots/1")));
    assert_ok(sp_make_folders(in_folder(state, "hub/models--org--name/blobs")));
    assert_true(fail_every_allocation(resolve, root) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_are_known, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(names_are_known, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(what_matches_is_counted, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(folders_are_known, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(caches_are_followed, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(caches_hold_parts, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(allocations_fail, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
