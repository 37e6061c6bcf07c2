// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <span>

#include "base/address.hpp"
#include "tls/openssl.hpp"
#include "tls/session.hpp"

namespace mesh::tls {
namespace {

constexpr int kSecurityBitsMin = 112;  // RSA 2048, EC of 224 bits
constexpr std::size_t kChainMax = 10;  // as many as OpenSSL takes from a peer by default

std::unexpected<base::Error> refused(std::string message, std::string remedy) {
  ERR_clear_error();
  return base::fail(base::ErrorKind::kInvalid, std::move(message), std::move(remedy));
}

std::string name_of(const X509_NAME* name) {
  const BioPtr text(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(text.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* data = nullptr;
  const long size = BIO_get_mem_data(text.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string_view text_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}

std::string address_of(const ASN1_OCTET_STRING* octets) {
  base::IpAddress ip;
  const std::string_view bytes = text_of(octets);
  if (bytes.size() == 4) {
    ip.bytes[10] = ip.bytes[11] = 0xff;
    std::memcpy(ip.bytes.data() + 12, bytes.data(), 4);
  } else if (bytes.size() == 16) {
    std::memcpy(ip.bytes.data(), bytes.data(), 16);
  } else {
    return {};
  }
  return ip.to_string();
}

void read_names(X509* certificate, CertificateFacts& facts) {
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) facts.dns_names.push_back(lower(text_of(name->d.dNSName)));
    if (name->type == GEN_IPADD) facts.addresses.push_back(address_of(name->d.iPAddress));
    if (name->type == GEN_URI) facts.uris.emplace_back(text_of(name->d.uniformResourceIdentifier));
  }
  if (names) return;
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return;
  const std::string_view common = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  const bool is_name = !common.empty() && std::ranges::all_of(common, [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '.' || c == '*' || c == '_';
  });
  if (is_name) facts.dns_names.push_back(lower(common));
}

std::string key_of(EVP_PKEY* key) {
  if (key == nullptr) return "unknown";
  std::string type = EVP_PKEY_get0_type_name(key);
  if (type == "RSA" || type == "RSA-PSS") return type + " " + std::to_string(EVP_PKEY_get_bits(key));
  std::array<char, 64> group{};
  if (EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) == 1) return type + " " + group.data();
  ERR_clear_error();
  return type;
}

/// The certificates of a PEM text; fails if one of them is damaged.
base::Result<std::vector<X509Ptr>> read_certificates(const std::string& pem) {
  ERR_clear_error();
  std::vector<X509Ptr> read;
  const BioPtr text = read_only_bio(pem);
  while (X509* certificate = PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr)) {
    read.emplace_back(certificate);
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return refused("one of its certificates is damaged: " + library_error(), "replace the file");
  }
  ERR_clear_error();  // of the end of the text
  return read;
}

}  // namespace

CertificateFacts facts_of(X509* certificate) {
  CertificateFacts facts{.subject = name_of(X509_get_subject_name(certificate)),
                         .issuer = name_of(X509_get_issuer_name(certificate)),
                         .key = key_of(X509_get0_pubkey(certificate)),
                         .not_before = time_of(X509_get0_notBefore(certificate)),
                         .not_after = time_of(X509_get0_notAfter(certificate))};
  facts.chain_ends = facts.not_after;
  if (BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr)) {
    char* text = BN_bn2hex(number);
    facts.serial = text;
    OPENSSL_free(text);
    BN_free(number);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) == 1) {
    facts.fingerprint = hex(std::span(digest).first(size));
  }
  read_names(certificate, facts);
  return facts;
}

base::Result<std::shared_ptr<const Certificate>> Certificate::parse(std::string chain, std::string key) {
  std::shared_ptr<Certificate> made(new Certificate(std::move(chain), std::move(key)));
  auto certificates = read_certificates(made->chain_);
  if (!certificates) {
    return refused("use the certificate's chain: " + certificates.error().message, certificates.error().remedy);
  }
  if (certificates->empty()) {
    return refused("use the certificate: it is no PEM certificate", "it begins with -----BEGIN CERTIFICATE-----");
  }
  if (certificates->size() > kChainMax) {
    return refused("use the certificate's chain: more than " + std::to_string(kChainMax) + " certificates",
                   "leave only the issuers of this certificate in it");
  }
  X509* own = certificates->front().get();
  EVP_PKEY* own_public = X509_get0_pubkey(own);
  if (own_public == nullptr) return refused("use the certificate: its key is of an unknown kind", "use RSA or EC");
  if (EVP_PKEY_get_security_bits(own_public) < kSecurityBitsMin) {
    return refused("use the certificate: its key is too weak: " + key_of(own_public),
                   "use one with an RSA key of 2048 bits or an EC key");
  }
  for (std::size_t i = 1; i < certificates->size(); ++i) {
    X509* below = (*certificates)[i - 1].get();
    X509* above = (*certificates)[i].get();
    if (X509_check_issued(above, below) == X509_V_OK) continue;
    return refused("use the certificate's chain: " + name_of(X509_get_subject_name(above)) + " is not the issuer of " +
                       name_of(X509_get_subject_name(below)),
                   "the certificate comes first, then its issuer, then that one's issuer");
  }
  const BioPtr keys = read_only_bio(made->key_);
  const KeyPtr own_key(PEM_read_bio_PrivateKey(keys.get(), nullptr, no_passphrase, nullptr));
  if (!own_key) {
    return refused("use the key: it is no PEM private key without passphrase",
                   "it begins with -----BEGIN PRIVATE KEY-----");
  }
  if (X509_check_private_key(own, own_key.get()) != 1) {
    return refused("use the key: it is not that of the certificate", "replace both files");
  }
  made->facts_ = facts_of(own);
  for (const X509Ptr& certificate : *certificates) {
    made->facts_.chain_ends = std::min(made->facts_.chain_ends, time_of(X509_get0_notAfter(certificate.get())));
  }
  made->is_rsa_ = EVP_PKEY_is_a(own_key.get(), "RSA") == 1 || EVP_PKEY_is_a(own_key.get(), "RSA-PSS") == 1;
  return made;
}

Certificate::~Certificate() { OPENSSL_cleanse(key_.data(), key_.size()); }

base::Result<std::shared_ptr<const Authorities>> Authorities::parse(std::string certificates, std::string revoked) {
  std::shared_ptr<Authorities> made(new Authorities());
  made->certificates_ = std::move(certificates);
  made->revoked_ = std::move(revoked);
  auto issuers = read_certificates(made->certificates_);
  if (!issuers) return refused("use the authorities: " + issuers.error().message, issuers.error().remedy);
  if (issuers->empty()) {
    return refused("use the authorities: there is no PEM certificate", "it begins with -----BEGIN CERTIFICATE-----");
  }
  for (const X509Ptr& issuer : *issuers) made->facts_.push_back(facts_of(issuer.get()));

  if (made->revoked_.empty()) return made;
  std::size_t lists = 0;
  const BioPtr text = read_only_bio(made->revoked_);
  for (; const X509CrlPtr list{PEM_read_bio_X509_CRL(text.get(), nullptr, no_passphrase, nullptr)}; ++lists) {
    const X509_NAME* by = X509_CRL_get_issuer(list.get());
    const auto issuer = std::ranges::find_if(
        *issuers, [&](const X509Ptr& of) { return X509_NAME_cmp(X509_get_subject_name(of.get()), by) == 0; });
    if (issuer == issuers->end()) {
      return refused("use the revocation list of " + name_of(by) + ": it is none of the authorities",
                     "add its certificate to the authorities, or remove the list");
    }
    if (X509_CRL_verify(list.get(), X509_get0_pubkey(issuer->get())) != 1) {
      return refused("use the revocation list of " + name_of(by) + ": its signature is wrong", "fetch it again");
    }
    const ASN1_TIME* next = X509_CRL_get0_nextUpdate(list.get());
    if (next != nullptr) made->lists_end_ = std::min(made->lists_end_.value_or(base::WallTime::max()), time_of(next));
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return refused("use the revocation lists: one is damaged: " + library_error(), "fetch it again");
  }
  if (lists == 0) {
    return refused("use the revocation lists: there is no PEM list", "it begins with -----BEGIN X509 CRL-----");
  }
  ERR_clear_error();  // of the end of the text
  return made;
}

}  // namespace mesh::tls
