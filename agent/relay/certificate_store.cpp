// SPDX-License-Identifier: Apache-2.0
#include "relay/certificate_store.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/fd.hpp"
#include "base/log.hpp"

namespace mesh::relay {
namespace {

constexpr base::log::Logger kLog{"relay"};
constexpr std::size_t kPemBytesMax = 256 * 1024;         // a chain of dozens
constexpr std::size_t kAuthoritiesBytesMax = 8UL << 20;  // all public authorities have 250 KiB; lists are longer
constexpr std::string_view kCertificateEnding = ".crt";
constexpr std::string_view kKeyEnding = ".key";

/// Differs when the file at the end of all links is another, or was written to.
std::string mark_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return path + " error " + std::to_string(errno) + "\n";
  const auto number = [](auto value) { return " " + std::to_string(value); };
  return path + number(status.st_dev) + number(status.st_ino) + number(status.st_size) + number(status.st_mtim.tv_sec) +
         number(status.st_mtim.tv_nsec) + number(status.st_ctim.tv_sec) + number(status.st_ctim.tv_nsec) + "\n";
}

/// NAME.crt with NAME.key, by name. So tls.crt and tls.key of a mounted secret are one, too.
base::Result<std::vector<CertificatePair>> list_folder(const std::string& folder) {
  std::error_code error;
  std::vector<CertificatePair> pairs;
  auto entry = std::filesystem::directory_iterator(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.starts_with('.') || !name.ends_with(kCertificateEnding)) continue;
    const std::string path = entry->path();
    // Who may issue it, beside the pair in a mounted secret.
    if (name == "ca.crt" && !std::filesystem::exists(entry->path().parent_path() / "ca.key")) continue;
    pairs.push_back({.certificate = path,
                     .key = path.substr(0, path.size() - kCertificateEnding.size()) + std::string(kKeyEnding)});
  }
  if (error) {
    return base::fail_errno(error.value(), "list the certificates of " + folder,
                            "name a folder that the relay can read");
  }
  std::ranges::sort(pairs, {}, &CertificatePair::certificate);
  return pairs;
}

base::Result<std::shared_ptr<const tls::Authorities>> read_bundle(const std::string& bundle, const std::string& crl) {
  auto certificates = MESH_TRY(base::read_file(bundle, kAuthoritiesBytesMax));
  std::string lists;
  if (!crl.empty()) lists = MESH_TRY(base::read_file(crl, kAuthoritiesBytesMax));
  auto parsed = tls::Authorities::parse(std::move(certificates), std::move(lists));
  if (!parsed) parsed.error().message += " (" + bundle + (crl.empty() ? "" : ", " + crl) + ")";
  return parsed;
}

}  // namespace

CertificateStore::CertificateStore(TlsSettings settings) : settings_(std::move(settings)) {}

void CertificateStore::change(TlsSettings settings) {
  if (settings_.client.ca != settings.client.ca || settings_.client.crl != settings.client.crl) authorities_.reset();
  if (settings_.trust != settings.trust) trust_.reset();
  authorities_refused_.reset();
  settings_ = std::move(settings);
  taken_.clear();
}

std::optional<base::Error> CertificateStore::refused() const {
  for (const CertificateState& state : certificates_) {
    if (state.refused) return state.refused;
  }
  return folder_refused_ ? folder_refused_ : authorities_refused_;
}

std::vector<CertificatePair> CertificateStore::list_pairs() {
  folder_refused_.reset();
  std::vector<CertificatePair> pairs;
  for (const CertificatePair& named : settings_.certificates) {
    if (named.folder.empty()) {
      pairs.push_back(named);
      continue;
    }
    auto listed = list_folder(named.folder);
    if (listed) {
      pairs.insert(pairs.end(), listed->begin(), listed->end());
      continue;
    }
    folder_refused_ = std::move(listed).error();
    for (const CertificateState& before : certificates_) {
      if (std::filesystem::path(before.files.certificate).parent_path() == named.folder) pairs.push_back(before.files);
    }
  }
  return pairs;
}

bool CertificateStore::look(Look how) {
  const std::vector<CertificatePair> pairs = list_pairs();
  std::string marks = folder_refused_ ? folder_refused_->message : "all folders\n";  // never empty: it was looked at
  for (const CertificatePair& pair : pairs) marks += mark_of(pair.certificate) + mark_of(pair.key);
  for (const std::string& path : {settings_.client.ca, settings_.client.crl}) {
    if (!path.empty()) marks += mark_of(path);
  }
  for (const TrustBundle& bundle : settings_.trust) {
    marks += mark_of(bundle.bundle) + (bundle.crl.empty() ? "" : mark_of(bundle.crl));
  }
  const bool settled = how == Look::kAtOnce || taken_.empty() || std::exchange(seen_, marks) == marks;
  if (!settled || marks == taken_) return false;
  taken_ = seen_ = marks;

  std::vector<CertificateState> states;
  for (const CertificatePair& pair : pairs) {
    const auto before = std::ranges::find(certificates_, pair, &CertificateState::files);
    CertificateState& state = states.emplace_back();
    if (before != certificates_.end()) state = *before;
    state.files = pair;
    read(state);
  }
  certificates_ = std::move(states);
  if (!settings_.client.ca.empty()) read_authorities();
  if (!settings_.trust.empty()) read_trust();
  if (folder_refused_) kLog.error("folder of certificates refused", {{"err", *folder_refused_}});
  return true;
}

void CertificateStore::read(CertificateState& state) const {
  const auto parse = [&]() -> base::Result<std::shared_ptr<const tls::Certificate>> {
    auto chain = MESH_TRY(base::read_file(state.files.certificate, kPemBytesMax));
    auto key = MESH_TRY(base::read_file(state.files.key, kPemBytesMax));
    auto parsed = tls::Certificate::parse(std::move(chain), std::move(key));
    if (parsed && !settings_.trust.empty()) {
      if (auto id = tls::svid_of(**parsed); !id) parsed = std::unexpected(std::move(id).error());
    }
    if (!parsed) parsed.error().message += " (" + state.files.certificate + ", " + state.files.key + ")";
    return parsed;
  };
  auto parsed = parse();
  if (!parsed) {
    state.refused = std::move(parsed).error();
    kLog.error(state.in_use ? "certificate refused: the one before stays in use" : "certificate refused",
               {{"err", *state.refused}});
    return;
  }
  state.refused.reset();
  const bool same = state.in_use && state.in_use->facts() == (*parsed)->facts();
  state.in_use = std::move(*parsed);
  if (!same) {
    kLog.info("certificate taken", {{"file", state.files.certificate},
                                    {"subject", state.in_use->facts().subject},
                                    {"expires", base::format_rfc3339(state.in_use->facts().chain_ends)}});
  }
}

void CertificateStore::read_authorities() {
  auto parsed = read_bundle(settings_.client.ca, settings_.client.crl);
  if (parsed) {
    authorities_ = std::move(*parsed);
    authorities_refused_.reset();
  } else {
    authorities_refused_ = std::move(parsed).error();
    kLog.error(authorities_ ? "authorities of clients refused: those before stay in use" : "authorities refused",
               {{"err", *authorities_refused_}});
  }
}

/// Of each trust domain what its files say, or else what they said before.
void CertificateStore::read_trust() {
  authorities_refused_.reset();
  tls::Trust::Bundles bundles;
  for (const TrustBundle& bundle : settings_.trust) {
    auto parsed = read_bundle(bundle.bundle, bundle.crl);
    if (parsed) {
      bundles[bundle.trust_domain] = std::move(*parsed);
      continue;
    }
    kLog.error("trust bundle refused: the one before stays in use",
               {{"trust_domain", bundle.trust_domain}, {"err", parsed.error()}});
    if (!authorities_refused_) authorities_refused_ = std::move(parsed).error();
    if (!trust_) continue;
    const auto before = trust_->bundles().find(bundle.trust_domain);
    if (before != trust_->bundles().end()) bundles.insert(*before);
  }
  if (!bundles.empty()) trust_ = std::make_shared<const tls::Trust>(std::move(bundles));
}

base::Result<tls::ServerOptions> CertificateStore::options(std::shared_ptr<const tls::Challenges> challenges) const {
  tls::ServerOptions options{.tls12 = settings_.min_version == "1.2",
                             .alpn = settings_.alpn,
                             .verify = settings_.client.verify,
                             .authorities = authorities_,
                             .trust = trust_,
                             .challenges = std::move(challenges)};
  if (!settings_.trust.empty()) options.verify = tls::ClientVerify::kRequire;
  for (const CertificateState& state : certificates_) {
    if (state.in_use) options.certificates.push_back(state.in_use);
  }
  if (options.certificates.empty() && !options.challenges) {
    for (const CertificateState& state : certificates_) {
      if (state.refused) return std::unexpected(*state.refused);
    }
    if (folder_refused_) return std::unexpected(*folder_refused_);
    return base::fail(base::ErrorKind::kInvalid, "use the listener's certificates: there is none",
                      "put NAME.crt and NAME.key into the folder");
  }
  if (options.verify != tls::ClientVerify::kNone && !options.authorities && !options.trust) {
    return std::unexpected(authorities_refused_.value_or(
        base::Error{base::ErrorKind::kInvalid, "verify clients: there are no authorities", "set tls.client.ca", 0}));
  }
  return options;
}

base::Result<std::shared_ptr<const tls::Certificate>> CertificateStore::identity() const {
  if (certificates_.empty()) {
    if (folder_refused_) return std::unexpected(*folder_refused_);
    return base::fail(base::ErrorKind::kInvalid, "use the identity: there is no certificate",
                      "put NAME.crt and NAME.key into the folder");
  }
  if (certificates_.size() > 1) {
    return base::fail(base::ErrorKind::kInvalid,
                      "use the identity: there is more than one certificate: " + certificates_[0].files.certificate +
                          " and " + certificates_[1].files.certificate,
                      "leave one pair NAME.crt and NAME.key in the folder");
  }
  const CertificateState& state = certificates_.front();
  if (!state.in_use) return std::unexpected(*state.refused);
  return state.in_use;
}

base::Result<tls::ClientContext::Options> CertificateStore::client_options(
    std::shared_ptr<const tls::Certificate> shown) const {
  tls::ClientContext::Options options{.resume = true};
  options.alpn = settings_.alpn;
  options.tls12 = settings_.min_version == "1.2";
  options.certificate = std::move(shown);
  if (!options.certificate && !settings_.certificates.empty()) options.certificate = MESH_TRY(identity());
  if (!settings_.trust.empty()) {
    if (!trust_) return std::unexpected(*authorities_refused_);
    options.trust = trust_;
    return options;
  }
  if (settings_.client.ca.empty()) return options;
  if (!authorities_) return std::unexpected(*authorities_refused_);
  options.authorities = authorities_;
  return options;
}

}  // namespace mesh::relay
