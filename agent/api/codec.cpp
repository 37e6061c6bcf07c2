// SPDX-License-Identifier: Apache-2.0
#include "api/codec.hpp"

#include <algorithm>

namespace mesh::api::detail {

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

base::Result<Json> parse(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return base::fail(base::ErrorKind::kInvalid, "parse JSON: syntax error");
  return json;
}

base::Result<void> refuse_unknown_keys(const Json& object, std::string_view kind,
                                       const std::vector<std::string>& known) {
  for (const auto& [key, value] : object.items()) {
    if (key == "apiVersion" || key == "kind" || std::ranges::find(known, key) != known.end()) continue;
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "known are: " : ", ") + name;
    return base::fail(base::ErrorKind::kInvalid, "decode " + std::string(kind) + ": unknown key '" + key + "'",
                      names.empty() ? "this request takes none" : names);
  }
  return {};
}

}  // namespace mesh::api::detail
