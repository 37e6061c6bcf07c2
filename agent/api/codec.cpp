// SPDX-License-Identifier: Apache-2.0
#include "api/codec.hpp"

namespace mesh::api::detail {

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

base::Result<Json> parse(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return base::fail(base::ErrorKind::kInvalid, "parse JSON: syntax error");
  return json;
}

}  // namespace mesh::api::detail
