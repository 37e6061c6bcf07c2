// SPDX-License-Identifier: Apache-2.0
#include "cli/context.hpp"

#include <ostream>

namespace mesh::cli {

void Context::print_document(const api::Json& document) const {
  out << (output == Output::kYaml ? to_yaml(document) : to_pretty_json(document));
}

base::Result<api::Json> fetch(const Context& context, const std::string& target) {
  const std::string body = MESH_TRY(context.client().get(target));
  return api::detail::parse(body);
}

base::Result<api::Json> send(const Context& context, const std::string& path, const std::string& body) {
  const std::string answer = MESH_TRY(context.client().post(path, body));
  return api::detail::parse(answer);
}

}  // namespace mesh::cli
