/* libsplam: few-step generators from Stable-Diffusion-family models; the whole public interface. */
#ifndef SPLAM_H
#define SPLAM_H
#include <splam/base.h>
#include <splam/data.h>
#include <splam/eval.h>
#include <splam/generate.h>
#include <splam/log.h>
#include <splam/model.h>
#include <splam/options.h>
#include <splam/picture.h>
#include <splam/session.h>
#include <splam/source.h>
#include <splam/train.h>
#endif
