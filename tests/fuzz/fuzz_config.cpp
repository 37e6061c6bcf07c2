// SPDX-License-Identifier: Apache-2.0
// meshd.yaml, and after a form feed a file of conf.d. Whatever is accepted must survive being shown and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "app/config.hpp"
#include "base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh::app;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::size_t split = text.find('\f');
  std::vector<ConfigText> files = {{"meshd.yaml", "meshd.yaml", text.substr(0, split)}};
  if (split != std::string::npos) files.push_back({"conf.d/a.yaml", "conf.d/a.yaml", text.substr(split + 1)});
  const LoadResult result = parse_config(files);
  for (const Diagnostic& error : result.errors) MESH_ASSERT(!error.to_string().empty());
  if (!result.good()) return 0;
  for (const Format format : {Format::kJson, Format::kYaml}) {
    // Hidden header values and the cgroups that were collapsed are all that may change.
    const std::string shown = show_config(result.config, format);
    const LoadResult again = parse_config({{"shown", "shown", shown}});
    MESH_ASSERT(again.good());
    MESH_ASSERT(again.config.agent == result.config.agent);
    MESH_ASSERT(show_config(again.config, format) == shown);
  }
  return 0;
}
