// SPDX-License-Identifier: Apache-2.0
#include "xds/world.hpp"

namespace mesh::xds {

ServedPtr World::find(std::string_view name) const {
  const auto colon = name.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? "" : name.substr(colon);
  std::string base(name.substr(0, colon));
  if (const std::string ending = "." + domain; !domain.empty() && base.ends_with(ending) && base != ending) {
    base.resize(base.size() - ending.size());
  }
  base += port.empty() ? ":" : port;
  if (!port.empty()) {
    const auto found = services.find(base);
    return found == services.end() ? nullptr : found->second;
  }
  const auto first = services.lower_bound(base);
  if (first == services.end() || !first->first.starts_with(base)) return nullptr;
  const auto next = std::next(first);
  return next != services.end() && next->first.starts_with(base) ? nullptr : first->second;
}

}  // namespace mesh::xds
