/* For test programs that draw text. */
#ifndef SP_TESTS_FONTCONFIG_LEAK_H
#define SP_TESTS_FONTCONFIG_LEAK_H

/* Read by LeakSanitizer: fontconfig, behind Cairo, keeps its patterns until the process ends. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

#endif
