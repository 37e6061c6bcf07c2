// SPDX-License-Identifier: Apache-2.0
#include "app/relay_identities.hpp"

#include <algorithm>
#include <iterator>
#include <list>
#include <utility>

#include "base/log.hpp"
#include "tls/svid.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"relay"};

}  // namespace

relay::IdentityRule identity_rule(const relay::ClientIdentity& identity) {
  relay::IdentityRule rule{
      .id = tls::SpiffeId::parse(identity.id).value(), .cgroup = identity.cgroup, .unit = identity.unit};
  if (identity.user >= 0) rule.uid = static_cast<std::uint32_t>(identity.user);
  return rule;
}

void RelayIdentities::set(const relay::Settings& settings) {
  std::list<One> before(std::make_move_iterator(all_.begin()), std::make_move_iterator(all_.end()));
  all_.clear();
  made_.clear();
  for (const relay::ClientIdentity& identity : settings.identities) {
    const relay::TlsSettings files = client_identity(settings.mesh, identity);
    const auto rule = identity_rule(identity);
    const auto known = std::ranges::find_if(
        before, [&](const One& one) { return one.rule.id == rule.id && one.files.settings() == files; });
    if (known == before.end()) {
      all_.push_back(
          {.rule = rule, .files = relay::CertificateStore(files), .shown = {}, .contexts = {}, .refused = {}});
    } else {
      all_.push_back(std::move(*known));
      all_.back().rule = rule;
      before.erase(known);
    }
  }
}

bool RelayIdentities::look(relay::CertificateStore::Look how, Libraries libraries) {
  bool different = false;
  for (One& one : all_) {
    if (!one.files.look(how)) continue;
    different = true;
    const auto made = renew(one, libraries);
    one.refused = made ? one.files.refused() : std::optional(made.error());
    if (one.refused) {
      kLog.error("identity not as ordered", {{"identity", one.rule.id.to_string()}, {"err", *one.refused}});
    }
  }
  if (different) made_.clear();
  return different;
}

base::Result<void> RelayIdentities::renew(One& one, Libraries libraries) {
  const auto take = [&]() -> base::Result<void> {
    auto named = MESH_TRY(one.files.identity());
    const tls::SpiffeId id = MESH_TRY(tls::svid_of(*named));
    if (id != one.rule.id) {
      return base::fail(base::ErrorKind::kInvalid,
                        "use the certificate of " + id.to_string() + " for " + one.rule.id.to_string(),
                        "name the files of that identity");
    }
    MESH_CHECK(make_contexts(one, named, libraries));
    one.shown = std::move(named);
    return {};
  };
  auto taken = take();
  // Contexts that believe whom older bundles did would let in who was revoked since.
  if (!taken && (!one.shown || !make_contexts(one, one.shown, libraries))) one.contexts.clear();
  return taken;
}

base::Result<void> RelayIdentities::make_contexts(One& one, std::shared_ptr<const tls::Certificate> shown,
                                                  Libraries libraries) {
  tls::ClientContext::Options options = MESH_TRY(one.files.client_options(std::move(shown)));
  if (!options.trust) {
    return base::fail(base::ErrorKind::kInvalid,
                      "use the identity " + one.rule.id.to_string() + ": it has nobody to believe",
                      "add relay.mesh.trust");
  }
  std::vector<std::shared_ptr<const tls::ClientContext>> contexts;
  for (const auto& library : libraries) {
    options.library = library;
    contexts.push_back(MESH_TRY(tls::ClientContext::make(options)));
  }
  one.contexts = std::move(contexts);
  return {};
}

std::shared_ptr<const relay::MeshIdentities> RelayIdentities::of_worker(std::size_t worker) {
  if (made_.size() <= worker) made_.resize(worker + 1);
  if (!made_[worker]) {
    auto made = std::make_shared<relay::MeshIdentities>();
    for (const One& one : all_) {
      made->rules.push_back(one.rule);
      made->contexts.push_back(one.contexts.empty() ? nullptr : one.contexts[worker]);
    }
    made_[worker] = std::move(made);
  }
  return made_[worker];
}

}  // namespace mesh::app
